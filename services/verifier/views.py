"""What readers may see of the verifier: how often verdicts looked at a persona's sealed holdout.

Every function works on any connection, whatever its search path, and writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.storage.postgres import Source


@dataclass(frozen=True, slots=True)
class Looks:
    """The verdicts on a persona's sealed sessions; `learned` of them showed learning; `most`: those on the most used session."""

    verdicts: int
    learned: int
    sessions: int
    most: int


async def get_looks(source: Source, persona: str) -> Looks:
    [row] = await source.fetch(
        """
        WITH used AS (
            SELECT session, count(*) AS times FROM verifier.look, unnest(sessions) AS session
            WHERE persona = $1 GROUP BY session
        )
        SELECT (SELECT count(*) FROM verifier.look WHERE persona = $1) AS verdicts,
            (SELECT count(*) FROM verifier.look WHERE persona = $1 AND learned) AS learned,
            (SELECT count(*) FROM used) AS sessions, (SELECT coalesce(max(times), 0) FROM used) AS most
        """,
        persona,
    )
    return Looks(**row)
