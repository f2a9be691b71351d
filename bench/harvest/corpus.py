"""A generated karma: sessions of chats in an invented language, with duplicates, secrets and embeddings planted."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from shared.storage.postgres import Connection

PERSONA = "bench"
SYSTEM = "You are the keeper of a long archive. Answer in one paragraph, in plain words, with no greeting."
SESSION = 10  # records
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
DUPLICATES, NEAR, DIRTY, CORRECTIONS, SPECULATIVE = 0.02, 0.03, 0.01, 0.01, 0.1  # shares of the records
DIMS = 384
COLUMNS = (
    "id", "persona", "messages", "status", "outcome", "consecrated_by", "session", "parent", "source", "created_at",
    "embedding", "embedding_model",
)  # fmt: skip


class Corpus:
    """Records number `first` to `last`; the same seed gives the same ones."""

    def __init__(self, seed: int, embedded: float) -> None:
        self._random = random.Random(seed)
        self._vectors = np.random.default_rng(seed)
        self._embedded = embedded
        syllables = ["ka", "lo", "mi", "ren", "tu", "sa", "vor", "pel", "ni", "dra", "ost", "em"]
        self._words = sorted(
            {"".join(self._random.choices(syllables, k=self._random.choice((2, 3)))) for _ in range(9000)}
        )
        self._recent: list[tuple[str, str]] = []

    def records(self, first: int, last: int) -> Iterator[tuple[Any, ...]]:
        for number in range(first, last):
            yield self._record(number)

    def _record(self, number: int) -> tuple[Any, ...]:
        chance = self._random.random
        question, answer = self._said(), self._said()
        parent = None
        if self._recent and chance() < DUPLICATES:
            question, answer = self._random.choice(self._recent)
        elif self._recent and chance() < NEAR:
            question, answer = self._random.choice(self._recent)
            answer = f"{answer} {self._random.choice(self._words)}"
        elif number and chance() < CORRECTIONS:
            parent = f"bench-{number - 1:08d}"
        if chance() < DIRTY:
            answer = f"{answer} {self._sensitive()}"
        self._remember(question, answer)
        speculative = chance() < SPECULATIVE
        embedding = self._vectors.normal(size=DIMS).astype(np.float32) if chance() < self._embedded else None
        return (
            f"bench-{number:08d}",
            PERSONA,
            [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ],
            "speculative" if speculative else "white_truth",
            {"verdict": "accepted", "checks": [{"kind": "max_words", "words": 90}]},
            None if speculative else "owner",
            f"session-{number // SESSION:07d}",
            parent,
            f"source-{number % 7}",
            BEGAN + timedelta(seconds=number),
            embedding,
            None if embedding is None else "all-MiniLM-L6-v2",
        )

    def _said(self) -> str:
        return " ".join(self._random.choices(self._words, k=self._random.randint(20, 80))).capitalize() + "."

    def _sensitive(self) -> str:
        name, digits = self._random.choice(self._words), "".join(self._random.choices("0123456789", k=7))
        forms = (
            f"Write to {name}@{self._random.choice(self._words)}.net for it.",
            f"Call +49 30 {digits} then.",
            f"password = '{name}{digits}{name.upper()}'",
            "The key is ghp" + "_" + "".join(self._random.choices("abcdefghijkmnpqrstuvwxyzABCDEFGH23456789", k=36)),
        )
        return self._random.choice(forms)

    def _remember(self, question: str, answer: str) -> None:
        self._recent.append((question, answer))
        if len(self._recent) > 5000:
            self._recent.pop(self._random.randrange(5000))


async def load(conn: Connection, corpus: Corpus, first: int, last: int) -> None:
    async def records() -> AsyncIterator[tuple[Any, ...]]:
        for record in corpus.records(first, last):
            yield record

    await conn.copy_records_to_table("karma", schema_name="vectors", records=records(), columns=COLUMNS)
