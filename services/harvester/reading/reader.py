"""Reads records as they lie in the database; pure and picklable at its edges, so that it runs in other processes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from pydantic import TypeAdapter, ValidationError

from services.harvester.copied import NULL, plain, plain_json
from services.harvester.likeness.minhash import bands
from services.harvester.reading.benchmarks import Benchmarks, digest, passages
from services.harvester.reading.grams import sampled
from services.harvester.reading.words import DIGEST_BYTES, fingerprint, said_plainly, turns, words
from services.harvester.reasons import Reason
from services.harvester.redaction.examine import Examined, examine
from services.harvester.redaction.policy import RedactionPolicy
from services.harvester.redaction.scanner import VERSION, Scanner
from services.harvester.split import lineage_place
from shared.contracts.checks import Check
from shared.contracts.karma import ChatMessage, fault

FORMAT = 2  # raised when a reading holds something else than before
BYTES_PER_TOKEN = 4
CUT = 8192  # records of a segment, on average

_MESSAGES: TypeAdapter[tuple[ChatMessage, ...]] = TypeAdapter(tuple[ChatMessage, ...])
_CHECKS: TypeAdapter[tuple[Check, ...]] = TypeAdapter(tuple[Check, ...])
_ROLES = frozenset({"system", "user", "assistant"})
NOTHING = b"[]"
_CLEAN = Examined(None)


class Stored(NamedTuple):
    """A record as COPY writes it: its content, and the fields that pass into the reading as they are."""

    messages: bytes
    checks: bytes
    tools: bytes
    passed: bytes  #: the fields of PASSED, with the tabs between them


#: Those of WRITTEN may be seen in what is written of a record, and with its content make its digest; the others may not.
WRITTEN = ("karma", "session", "parent", "feedback", "source", "kind")
PASSED = (*WRITTEN, "persona", "touched", "created_at", "status", "licence", "consented")
_READ = ("content", "text", "place", "cut", "characters", "tokens", "redacted", "found", "reason", "bands")
COLUMNS = (*PASSED, *_READ, "grams", "policy")


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
        self._named = self.policy.encode()

    def read(self, lines: Sequence[bytes]) -> list[bytes]:
        """One row of the table of readings for each record, as COPY takes it; see Stored and COLUMNS."""
        heard = [self._hear(line) for line in lines]
        grams = sampled([spoken for spoken, _ in heard])
        return [
            b"%b\t%b\t%b" % (row, _array(passages), self._named)
            for (_, row), passages in zip(heard, grams, strict=True)
        ]

    def _hear(self, line: bytes) -> tuple[bytes, bytes]:
        """The words of a record, and its row but for the passages."""
        record = Stored._make(line.split(b"\t", 3))
        written, persona = record.passed.rsplit(b"\t", len(PASSED) - len(WRITTEN))[:2]
        karma, session, _ = written.split(b"\t", 2)
        content = content_digest(line[: len(line) - len(record.passed) + len(written)])
        placed = f"{_place(self._split_key, persona, session)}\t{_begins_segment(karma):d}"
        messages = plain_json(record.messages)
        suspicious = self._suspicious(messages, record.tools)
        said = None if suspicious else said_plainly(messages)
        examined = _CLEAN
        if said is None or not _are_checks(record.checks):
            values = orjson.loads(messages)
            if not (_is_plain(values) or _is_whole(messages)) or not _are_checks(record.checks):
                return b"", _row(record, content, content, placed, f"0\t0\tf\t\\N\t{Reason.MALFORMED}\t{{}}")
            if suspicious:
                examined = examine({"messages": values, "tools": orjson.loads(plain_json(record.tools))}, self._scanner)
                values = examined.values["messages"]
            said = turns(values)
        spoken = words(said)
        reason = _quarantine(examined, self._redaction) or (self._benchmarks.within(spoken) and Reason.CONTAMINATED)
        read = (
            f"{len(spoken)}\t{-(-len(messages) // BYTES_PER_TOKEN)}\t{_counted(examined)}\t{reason or _NONE}\t"
            f"{_array(bands(spoken.decode().split())).decode() if self._with_bands else '{}'}"
        )
        return spoken, _row(record, content, fingerprint(said, spoken), placed, read)

    def _suspicious(self, written: bytes, tools: bytes) -> bool:
        """Nearly all records hold nothing, and one pass over the text as it is stored tells so."""
        return self._scanner.suspicious(written) or (tools != NOTHING and self._scanner.suspicious(plain_json(tools)))

    def cleaned(self, messages: Any, tools: Any) -> tuple[Any, Any]:
        """Messages and tools as they may be written, with what the policy redacts redacted."""
        values = examine({"messages": messages, "tools": tools}, self._scanner).values
        return values["messages"], values["tools"]


def content_digest(written: bytes) -> bytes:
    """Changes with everything of a record that may be written into a manifest, given as COPY writes it."""
    return sha256(written).digest()[:DIGEST_BYTES]


def _begins_segment(karma: bytes) -> bool:
    return int.from_bytes(blake2b(plain(karma), digest_size=8).digest(), "big") % CUT == 0


@lru_cache(maxsize=4096)
def _place(key: str, persona: bytes, session: bytes) -> str:
    return repr(lineage_place(key, plain(persona).decode(), plain(session).decode()))


def _row(record: Stored, content: bytes, text: bytes, placed: str, read: str) -> bytes:
    """The columns of a reading as COPY takes them: nothing in them needs an escape but the backslash of a bytea."""
    said = f"\t\\\\x{content.hex()}\t\\\\x{text.hex()}\t{placed}\t{read}"
    return record.passed + said.encode()


_NONE = NULL.decode()


def _counted(examined: Examined) -> str:
    if not examined.found:
        return f"f\t{_NONE}"
    return f"t\t{orjson.dumps({str(kind): count for kind, count in sorted(examined.found.items())}).decode()}"


def _array(values: list[int]) -> bytes:
    return f"{{{','.join(map(str, values))}}}".encode() if values else b"{}"


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
def _are_checks(checks: bytes) -> bool:
    """Many records bear the same ones."""
    try:
        _CHECKS.validate_json(NOTHING if checks == NULL else plain_json(checks))
    except ValidationError:
        return False
    return True
