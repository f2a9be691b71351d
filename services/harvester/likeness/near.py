"""Which records nearly repeat another one of their persona: found once per record, kept in `near_duplicate`.

By words, then by meaning. A run that was cut short is repeated from its start: pairs are inserted once, and a record
counts as compared only when everything of the run is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from services.harvester.likeness import by_meaning, by_words

if TYPE_CHECKING:
    from services.harvester.likeness.by_words import ReadWords
    from services.harvester.likeness.policy import LikenessPolicy
    from shared.storage.postgres import Connection

log = structlog.get_logger()


async def compare(
    conn: Connection, persona: str, policy: LikenessPolicy, read_words: ReadWords = by_words.words_of_karma
) -> int:
    """Look for near duplicates of every record that was not compared yet; how many records were looked at.

    Never inside a transaction: it runs for minutes over a million new records. Records of equal words (`reading.text`)
    are never paired, and a pair speaks for all records of its two texts: whoever forms groups joins over pairs and
    over equal texts. `read_words` gives the words of some ids as `minhash.bands` saw them. May be repeated.
    """
    compared = await by_words.compare(conn, persona, policy, read_words)
    weighed = await by_meaning.compare(conn, persona, policy)
    if compared or weighed:
        log.info("near duplicates looked for", persona=persona, by_words=compared, by_meaning=weighed)
    return compared
