"""Reads records as they lie in the database; pure and picklable at its edges, so that it runs in other processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from services.harvester.copied import NULL, plain, plain_json, plain_jsons
from services.harvester.likeness.minhash import bands
from services.harvester.reading.benchmarks import Benchmarks, digest, passages
from services.harvester.reading.grams import sampled
from services.harvester.reading.plainly import said_plainly
from services.harvester.reading.words import DIGEST_BYTES, fingerprints, turns, words
from services.harvester.reasons import Reason
from services.harvester.redaction.examine import Examined, examine
from services.harvester.redaction.policy import RedactionPolicy
from services.harvester.redaction.scanner import VERSION, Scanner
from services.harvester.split import lineage_place
from shared.contracts.checks import Check
from shared.contracts.karma import ChatMessage, fault

FORMAT = 3  # raised when a reading holds something else than before
BYTES_PER_TOKEN = 4
CUT = 8192  # records of a segment, on average

_MESSAGES: TypeAdapter[tuple[ChatMessage, ...]] = TypeAdapter(tuple[ChatMessage, ...])
_CHECKS: TypeAdapter[tuple[Check, ...]] = TypeAdapter(tuple[Check, ...])
_ROLES = frozenset({"system", "user", "assistant"})
NOTHING = b"[]"
_NONE = NULL.decode()
AT_ONCE = 128  # records; so many of usual length stay in a processor's cache

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

    def read(self, lines: Sequence[bytes]) -> list[bytes]:
        """One row of the table of readings for each record, as COPY takes it: see COLUMNS.

        A record is a line as COPY writes it: messages, checks, tools, and the fields of PASSED.
        """
        parts = [lines[first : first + AT_ONCE] for first in range(0, len(lines), AT_ONCE)]
        return [row for part in parts for row in self._read(part)]

    def _read(self, lines: Sequence[bytes]) -> list[bytes]:
        stored, checks, tools, passed = zip(*[line.split(b"\t", 3) for line in lines], strict=True)
        messages = plain_jsons(stored)
        said, looks = self._hear(messages, checks, tools)
        spoken = words(said)
        contaminated = self._benchmarks.met(spoken)
        columns = zip(lines, passed, messages, spoken, fingerprints(said, spoken), sampled(spoken), strict=True)
        return [
            self._row(looks.get(place, _PLAIN), place in contaminated, *fields) for place, fields in enumerate(columns)
        ]

    def _row(
        self,
        look: _Look,
        contaminated: bool,
        line: bytes,
        passed: bytes,
        messages: bytes,
        spoken: bytes,
        text: str,
        grams: list[int],
    ) -> bytes:
        """The columns of a reading: nothing in them needs an escape but the backslash of a bytea."""
        content, placed = self._placed(line, passed)
        if look.malformed:
            read = f"0\t0\t{look.found}\t{Reason.MALFORMED}\t{{}}\t{{}}"
            text = content
        else:
            reason = look.reason or (Reason.CONTAMINATED if contaminated else _NONE)
            tokens = -(-len(messages) // BYTES_PER_TOKEN)
            read = f"{len(spoken)}\t{tokens}\t{look.found}\t{reason}\t{self._bands(spoken)}\t{_array(grams)}"
        return passed + f"\t\\\\x{content}\t\\\\x{text}\t{placed}\t{read}\t{self.policy}".encode()

    def _hear(
        self, messages: Sequence[bytes], checks: Sequence[bytes], tools: Sequence[bytes]
    ) -> tuple[list[bytes], dict[int, _Look]]:
        """What is said in each record, and what a closer look found in those that need one."""
        said = [said_plainly(written) for written in messages]
        suspects = self._suspects(messages, tools)
        wrong = {some for some in set(checks) if not _are_checks(some)}
        looks = {
            place: self._look(messages[place], tools[place], checks[place], place in suspects)
            for place, plainly in enumerate(said)
            if plainly is None or place in suspects or checks[place] in wrong
        }
        return [looks[place].said if place in looks else plainly or b"" for place, plainly in enumerate(said)], looks

    def _suspects(self, messages: Sequence[bytes], tools: Sequence[bytes]) -> set[int]:
        """Nearly all records hold nothing, and one pass over the text as it is stored tells so."""
        suspects = self._scanner.suspects(messages)
        called = [place for place, field in enumerate(tools) if field != NOTHING]
        if not called:
            return suspects
        return suspects | {called[n] for n in self._scanner.suspects(plain_jsons([tools[place] for place in called]))}

    def _look(self, written: bytes, tools: bytes, checks: bytes, suspicious: bool) -> _Look:
        values = orjson.loads(written)
        if not (_is_plain(values) or _is_whole(written)) or not _are_checks(checks):
            return _Look(malformed=True)
        if not suspicious:
            return _Look(turns(values))
        examined = examine({"messages": values, "tools": orjson.loads(plain_json(tools))}, self._scanner)
        return _Look(
            turns(examined.values["messages"]), _counted(examined), _quarantine(examined, self._redaction) or ""
        )

    def _placed(self, line: bytes, passed: bytes) -> tuple[str, str]:
        """The digest of a record's content, and where it stands: its place in the split, and whether a segment begins."""
        karma, session, *_, persona, unwritten = passed.split(b"\t", len(WRITTEN) + 1)
        written = line[: -(len(persona) + len(unwritten) + 2)]
        return _digest(written), f"{_place(self._split_key, persona, session)}\t{_begins_segment(karma):d}"

    def _bands(self, spoken: bytes) -> str:
        return _array(bands(spoken.decode().split())) if self._with_bands else "{}"

    def cleaned(self, messages: Any, tools: Any) -> tuple[Any, Any]:
        """Messages and tools as they may be written, with what the policy redacts redacted."""
        values = examine({"messages": messages, "tools": tools}, self._scanner).values
        return values["messages"], values["tools"]


@dataclass(frozen=True)
class _Look:
    """What is said in a record, and `found` and `reason` of its reading."""

    said: bytes = b""
    found: str = f"f\t{_NONE}"
    reason: str = ""
    malformed: bool = False


_PLAIN = _Look()


def _digest(written: bytes) -> str:
    """Changes with everything of a record that may be written into a manifest, given as COPY writes it."""
    return sha256(written).hexdigest()[: 2 * DIGEST_BYTES]


def _begins_segment(karma: bytes) -> bool:
    return int.from_bytes(blake2b(plain(karma), digest_size=8).digest(), "big") % CUT == 0


@lru_cache(maxsize=4096)
def _place(key: str, persona: bytes, session: bytes) -> str:
    return repr(lineage_place(key, plain(persona).decode(), plain(session).decode()))


def _counted(examined: Examined) -> str:
    if not examined.found:
        return f"f\t{_NONE}"
    return f"t\t{orjson.dumps({str(kind): count for kind, count in sorted(examined.found.items())}).decode()}"


def _array(values: list[int]) -> str:
    return f"{{{','.join(map(str, values))}}}"


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
