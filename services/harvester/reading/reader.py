"""Reads records as they lie in the database; pure and picklable at its edges, so that it runs in other processes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from pydantic import TypeAdapter, ValidationError

from services.harvester.likeness.minhash import bands
from services.harvester.reading.benchmarks import Benchmarks, digest, passages
from services.harvester.reading.grams import sampled
from services.harvester.reading.words import DIGEST_BYTES, fingerprint, said, words
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
_NO_CHECKS = frozenset({None, "[]"})


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

    def _hear(self, record: Stored) -> tuple[str, Reading]:
        content = content_digest(record)
        place = lineage_place(self._split_key, record.persona, record.session)
        cut = int.from_bytes(blake2b(record.karma.encode(), digest_size=8).digest(), "big") % CUT == 0
        if not _is_whole(record):
            return "", Reading(content, content, place, cut, 0, 0, False, None, Reason.MALFORMED, [], [])
        examined = self._examined(record)
        normalised = said(examined.values["messages"])
        spoken = words(normalised)
        reading = Reading(
            content,
            fingerprint(normalised),
            place,
            cut,
            len(normalised),
            -(-len(record.messages.encode()) // BYTES_PER_TOKEN),
            bool(examined.found),
            {str(kind): count for kind, count in sorted(examined.found.items())} or None,
            _quarantine(examined, self._redaction)
            or (Reason.CONTAMINATED if self._benchmarks.within(spoken) else None),
            [],
            bands(spoken.split()) if self._with_bands else [],
        )
        return spoken, reading

    def _examined(self, record: Stored) -> Examined:
        """What is found in a record; nearly all hold nothing, and one pass over the text as it is stored tells so."""
        values = {"messages": orjson.loads(record.messages), "tools": orjson.loads(record.tools)}
        if self._scanner.suspicious(record.messages) or (values["tools"] and self._scanner.suspicious(record.tools)):
            return examine(values, self._scanner)
        return Examined(values)

    def cleaned(self, messages: Any, tools: Any) -> tuple[Any, Any]:
        """Messages and tools as they may be written, with what the policy redacts redacted."""
        values = examine({"messages": messages, "tools": tools}, self._scanner).values
        return values["messages"], values["tools"]


def content_digest(record: Stored) -> bytes:
    """Changes with everything of a record that may be written into a manifest."""
    parts = (record.karma, record.session, record.parent or "", record.feedback or "", record.messages, record.tools)
    return blake2b("\x1e".join((*parts, record.checks or "")).encode(), digest_size=DIGEST_BYTES).digest()


def _quarantine(examined: Examined, policy: RedactionPolicy) -> Reason | None:
    """Why a record is held back, where the policy holds back what was found in it."""
    if not examined.quarantined:
        return None
    held = {kind.group for kind in examined.found if policy.action(kind) == "quarantine"}
    return Reason.PERSONAL if held == {"personal"} else Reason.SECRET


def _is_whole(record: Stored) -> bool:
    try:
        messages = _MESSAGES.validate_json(record.messages)
        if record.checks not in _NO_CHECKS:
            _CHECKS.validate_json(record.checks or "")
    except ValidationError:
        return False
    return fault(messages) is None
