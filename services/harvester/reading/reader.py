"""Reads records as they lie in the database; pure and picklable at its edges, so that it runs in other processes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from pydantic import TypeAdapter, ValidationError

from services.harvester.likeness.minhash import bands
from services.harvester.reading.benchmarks import Benchmarks, digest, passages
from services.harvester.reading.grams import sampled
from services.harvester.reading.words import DIGEST_BYTES, fingerprint, turns, words
from services.harvester.reasons import Reason
from services.harvester.redaction.examine import Examined, examine
from services.harvester.redaction.policy import RedactionPolicy
from services.harvester.redaction.scanner import VERSION, Scanner
from services.harvester.split import lineage_place
from shared.contracts.checks import Check
from shared.contracts.karma import ChatMessage, fault

FORMAT = 1  # raised when a reading holds something else than before
BYTES_PER_TOKEN = 4
CUT = 8192  # records of a segment, on average

_MESSAGES: TypeAdapter[tuple[ChatMessage, ...]] = TypeAdapter(tuple[ChatMessage, ...])
_CHECKS: TypeAdapter[tuple[Check, ...]] = TypeAdapter(tuple[Check, ...])
_ROLES = frozenset({"system", "user", "assistant"})
NOTHING = "[]"


class Stored(NamedTuple):
    """A record as it lies in the database; JSON as text. The first fields pass into the reading as they are."""

    karma: str
    persona: str
    touched: int
    created_at: datetime
    status: str
    session: str
    parent: str | None
    source: str
    licence: str
    kind: str
    feedback: str | None
    consented: bool
    messages: str
    tools: str
    checks: str | None


PASSED = Stored._fields.index("messages")


class Reading(NamedTuple):
    """What was read in the content of a record."""

    content: bytes
    text: bytes
    place: float
    cut: bool
    characters: int
    tokens: int
    redacted: bool
    found: dict[str, int] | None
    reason: Reason | None
    grams: list[int]
    bands: list[int]


COLUMNS = (*Stored._fields[:PASSED], *Reading._fields)


class Reader:
    """Holds what recognises secrets, personal data and benchmark items; costly to make, cheap to use."""

    def __init__(self, redaction: RedactionPolicy, split_key: str, benchmarks: Path, with_bands: bool = True) -> None:
        found = passages(benchmarks)
        self._split_key, self._redaction, self._with_bands = split_key, redaction, with_bands
        self._scanner = Scanner(redaction)
        self._benchmarks = Benchmarks(found)
        #: Names this way of reading: records that were read in another way are read again.
        self.policy = blake2b(
            f"{FORMAT} {VERSION} {redaction.model_dump_json()} {split_key} {with_bands} {digest(found)}".encode(),
            digest_size=DIGEST_BYTES,
        ).hexdigest()

    def read(self, records: Sequence[Stored]) -> list[tuple[Any, ...]]:
        """One row of the table of readings for each record, without the policy's name; see COLUMNS."""
        heard = [self._hear(record) for record in records]
        grams = sampled([spoken for spoken, _ in heard])
        return [
            (*record[:PASSED], *reading._replace(grams=passages))
            for record, (_, reading), passages in zip(records, heard, grams, strict=True)
        ]

    def _hear(self, record: Stored) -> tuple[bytes, Reading]:
        written = record.messages.encode()
        content = content_digest(record, written)
        place = lineage_place(self._split_key, record.persona, record.session)
        cut = int.from_bytes(blake2b(record.karma.encode(), digest_size=8).digest(), "big") % CUT == 0
        messages = orjson.loads(written)
        if not (_is_plain(messages) or _is_whole(written)) or not _are_checks(record.checks):
            return b"", Reading(content, content, place, cut, 0, 0, False, None, Reason.MALFORMED, [], [])
        examined = self._examined(messages, written, record.tools)
        said = turns(examined.values["messages"])
        spoken = words(said)
        reading = Reading(
            content,
            fingerprint(said, spoken),
            place,
            cut,
            len(spoken),
            -(-len(written) // BYTES_PER_TOKEN),
            bool(examined.found),
            {str(kind): count for kind, count in sorted(examined.found.items())} or None,
            _quarantine(examined, self._redaction)
            or (Reason.CONTAMINATED if self._benchmarks.within(spoken) else None),
            [],
            bands(spoken.decode().split()) if self._with_bands else [],
        )
        return spoken, reading

    def _examined(self, messages: Any, written: bytes, tools: str) -> Examined:
        """What is found in a record; nearly all hold nothing, and one pass over the text as it is stored tells so."""
        if self._scanner.suspicious(written) or (tools != NOTHING and self._scanner.suspicious(tools)):
            return examine({"messages": messages, "tools": orjson.loads(tools)}, self._scanner)
        return Examined({"messages": messages})

    def cleaned(self, messages: Any, tools: Any) -> tuple[Any, Any]:
        """Messages and tools as they may be written, with what the policy redacts redacted."""
        values = examine({"messages": messages, "tools": tools}, self._scanner).values
        return values["messages"], values["tools"]


def content_digest(record: Stored, written: bytes) -> bytes:
    """Changes with everything of a record that may be written into a manifest; `written` are its messages."""
    parts = f"{record.karma}\x1e{record.session}\x1e{record.parent}\x1e{record.feedback}\x1e{record.tools}\x1e{record.checks}"
    digest = blake2b(parts.encode(), digest_size=DIGEST_BYTES)
    digest.update(written)
    return digest.digest()


def _quarantine(examined: Examined, policy: RedactionPolicy) -> Reason | None:
    """Why a record is held back, where the policy holds back what was found in it."""
    if not examined.quarantined:
        return None
    held = {kind.group for kind in examined.found if policy.action(kind) == "quarantine"}
    return Reason.PERSONAL if held == {"personal"} else Reason.SECRET


def _is_plain(messages: Any) -> bool:
    """True of the commonest conversations, which need no closer look: roles and texts alone, with an answer at the end."""
    if type(messages) is not list:
        return False
    user = False
    for message in messages:
        if type(message) is not dict or len(message) != 2 or type(message.get("content")) is not str:
            return False
        role = message.get("role")
        if role not in _ROLES:
            return False
        user = user or role == "user"
    return user and messages[-1]["role"] == "assistant" and bool(messages[-1]["content"])


def _is_whole(written: bytes) -> bool:
    try:
        return fault(_MESSAGES.validate_json(written)) is None
    except ValidationError:
        return False


@lru_cache(maxsize=4096)
def _are_checks(checks: str | None) -> bool:
    """Many records bear the same ones."""
    try:
        _CHECKS.validate_json(checks or NOTHING)
    except ValidationError:
        return False
    return True
