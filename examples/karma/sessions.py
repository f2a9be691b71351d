"""How one persona's days become karma: which answers are consecrated, corrected, doubted, doubled or withdrawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from shared.contracts.checks import Check
from shared.contracts.karma import ChatMessage, KarmaRecord, Outcome, Status

FIRST_DAY = datetime(2026, 2, 2, 8, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Told:
    """One exchange: what was asked, the answer as the owner wants it, and an answer that the owner disliked."""

    prompt: str
    answer: str
    disliked: str
    checks: tuple[Check, ...]
    evidence: str


@dataclass(frozen=True)
class Session:
    """Exchanges of one sitting, on one subject."""

    name: str
    exchanges: tuple[Told, ...]


def pick(options: Sequence[str], *key: object) -> str:
    """The same option for the same key, on every machine and Python."""
    digest = sha256(repr(key).encode()).digest()
    return options[int.from_bytes(digest[:8], "big") % len(options)]


def remember(persona: str, owner: str, rules: str, sessions: Sequence[Session]) -> tuple[KarmaRecord, ...]:
    """All records of a persona in the order they were made. `rules` is the system prompt; `owner` vouches."""
    scribe = _Writer(persona, owner, rules)
    place = 0
    for day, session in enumerate(sessions):
        for exchange in session.exchanges:
            scribe.record(place, day, session.name, exchange)
            place += 1
    return tuple(scribe.written)


class _Writer:
    """Numbers the records of each session and decides the fate of each exchange by its place."""

    def __init__(self, persona: str, owner: str, rules: str) -> None:
        self.written: list[KarmaRecord] = []
        self._persona, self._owner, self._rules = persona, owner, rules
        self._counts: dict[str, int] = {}

    def record(self, place: int, day: int, session: str, told: Told) -> None:
        if place % 16 == 7:
            self._write(day, session, told, told.answer if place % 32 == 7 else told.disliked, "never reviewed")
        elif place % 38 == 11:
            self._write(day, session, told, told.answer, "consent withdrawn", status=Status.REVOKED)
        elif place % 19 == 5:
            self._corrected(day, session, told)
        else:
            self._write(day, session, told, told.answer, "right at the first try", status=Status.WHITE_TRUTH)
            if place % 38 == 20:
                self._write(day, session, told, told.answer, "sent twice by the importer", status=Status.WHITE_TRUTH)

    def _corrected(self, day: int, session: str, told: Told) -> None:
        parent = self._write(day, session, told, told.disliked, "the owner disliked it", verdict="rejected")
        why = "the owner's own correction of a disliked answer"
        self._write(day, session, told, told.answer, why, status=Status.WHITE_TRUTH, parent=parent)

    def _write(
        self,
        day: int,
        session: str,
        told: Told,
        answer: str,
        why: str,
        status: Status = Status.SPECULATIVE,
        parent: str | None = None,
        verdict: str = "accepted",
    ) -> str:
        count = self._counts[session] = self._counts.get(session, 0) + 1
        record_id = f"{self._persona}-{session.replace(' ', '-')}-{count:02d}"
        created = FIRST_DAY + timedelta(days=day, minutes=7 * count)
        vouched = status is not Status.SPECULATIVE
        self.written.append(
            KarmaRecord(
                id=record_id,
                persona=self._persona,
                messages=tuple(self._messages(told.prompt, answer)),
                status=status,
                outcome=Outcome(verdict=verdict, evidence=told.evidence if vouched else "", checks=told.checks),
                why=why,
                consecrated_by=self._owner if vouched else None,
                consecrated_at=created + timedelta(hours=9) if vouched else None,
                session=f"{self._persona}-{session.replace(' ', '-')}",
                parent=parent,
                source="examples",
                created_at=created,
            )
        )
        return record_id

    def _messages(self, prompt: str, answer: str) -> Iterator[ChatMessage]:
        yield ChatMessage(role="system", content=self._rules)
        yield ChatMessage(role="user", content=prompt)
        yield ChatMessage(role="assistant", content=answer)
