"""Turn the sessions of a persona into karma records: consecrated, corrected, speculative, duplicate or revoked ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from shared.contracts.checks import Check
from shared.contracts.karma import ChatMessage, KarmaRecord, Outcome, Status

FIRST_DAY = datetime(2026, 2, 2, 8, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Exchange:
    """A prompt, the answer that its owner accepts, and an answer that the owner disliked."""

    prompt: str
    answer: str
    disliked: str
    checks: tuple[Check, ...]
    evidence: str


@dataclass(frozen=True)
class Session:
    """The exchanges of one session, on one subject."""

    name: str
    exchanges: tuple[Exchange, ...]


def pick(options: Sequence[str], *key: object) -> str:
    """Choose an option by the hash of `key`: the same on every machine and version of Python."""
    digest = sha256(repr(key).encode()).digest()
    return options[int.from_bytes(digest[:8], "big") % len(options)]


def remember(persona: str, owner: str, rules: str, sessions: Sequence[Session]) -> tuple[KarmaRecord, ...]:
    """Make all records of a persona, oldest first. `rules` is the system prompt; `owner` consecrates.

    Each subject is taken up again weeks later: the sealed holdout needs many sessions, for a verdict counts those.
    """
    writer = _Writer(persona, owner, rules)
    place = 0
    for day, session in enumerate((*map(_first, sessions), *map(_second, sessions))):
        for exchange in session.exchanges:
            writer.add(place, day, session.name, exchange)
            place += 1
    return tuple(writer.written)


def _first(session: Session) -> Session:
    return Session(session.name, session.exchanges[: len(session.exchanges) // 2])


def _second(session: Session) -> Session:
    return Session(f"{session.name}-followup", session.exchanges[len(session.exchanges) // 2 :])


class _Writer:
    """Numbers the records of each session and chooses the kind of each exchange by its place."""

    def __init__(self, persona: str, owner: str, rules: str) -> None:
        self.written: list[KarmaRecord] = []
        self._persona, self._owner, self._rules = persona, owner, rules
        self._counts: dict[str, int] = {}

    def add(self, place: int, day: int, session: str, exchange: Exchange) -> None:
        if place % 16 == 7:
            self._write(
                day, session, exchange, exchange.answer if place % 32 == 7 else exchange.disliked, "never reviewed"
            )
        elif place % 38 == 11:
            self._write(day, session, exchange, exchange.answer, "consent withdrawn", status=Status.REVOKED)
        elif place % 19 == 5:
            self._corrected(day, session, exchange)
        else:
            self._write(day, session, exchange, exchange.answer, "right at the first try", status=Status.WHITE_TRUTH)
            if place % 38 == 20:
                self._write(
                    day, session, exchange, exchange.answer, "sent twice by the importer", status=Status.WHITE_TRUTH
                )

    def _corrected(self, day: int, session: str, exchange: Exchange) -> None:
        parent = self._write(day, session, exchange, exchange.disliked, "the owner disliked it", verdict="rejected")
        why = "the owner's own correction of a disliked answer"
        self._write(day, session, exchange, exchange.answer, why, status=Status.WHITE_TRUTH, parent=parent)

    def _write(
        self,
        day: int,
        session: str,
        exchange: Exchange,
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
                messages=tuple(self._messages(exchange.prompt, answer)),
                status=status,
                outcome=Outcome(verdict=verdict, evidence=exchange.evidence if vouched else "", checks=exchange.checks),
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
