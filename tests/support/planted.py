"""Karma with things in it that must never get anywhere: made at run time, told apart by what a search for bytes finds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from examples.karma import coder
from shared.config.settings import Settings
from shared.contracts.karma import ChatMessage, KarmaRecord
from shared.redaction.sensitive import Sensitive
from tests.support.corpora.values import draw

SECRETS = (
    Sensitive.GITHUB_TOKEN, Sensitive.GITLAB_TOKEN, Sensitive.SLACK, Sensitive.STRIPE_KEY, Sensitive.OPENAI_KEY,
    Sensitive.ANTHROPIC_KEY, Sensitive.GOOGLE_KEY, Sensitive.HUGGING_FACE_TOKEN, Sensitive.NPM_TOKEN, Sensitive.SENDGRID_KEY,
    Sensitive.JWT, Sensitive.TELEGRAM_TOKEN,
)  # fmt: skip
PERSONAL = (Sensitive.EMAIL, Sensitive.IBAN, Sensitive.CARD, Sensitive.PHONE) * 3
ELSEWHERE = frozenset({"vectors.karma"})  # where the records themselves lie


class Planted:
    """Records of the coder, half of them with a secret, half with personal data; and what to search for."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        self.secrets = [draw(chance, kind) for kind in SECRETS]
        self.personal = [draw(chance, kind) for kind in PERSONAL]
        self._like = next(record for record in coder.records() if record.status == "white_truth")

    @property
    def needles(self) -> list[bytes]:
        return [text.encode() for text in (*self.secrets, *self.personal)]

    def records(self) -> Iterator[KarmaRecord]:
        for number, secret in enumerate(self.secrets):
            yield self._record(f"secret-{number}", f"Push branch {number} with the token {secret}.", "# push\ngit push")
        for number, thing in enumerate(self.personal):
            answer = f"# note the contact {number}\necho '{thing}' >> contacts-{number}.txt"
            yield self._record(f"personal-{number}", f"Note contact {number}: {thing}.", answer)

    def _record(self, id: str, question: str, answer: str) -> KarmaRecord:
        system = self._like.messages[0]
        messages = (system, ChatMessage(role="user", content=question), ChatMessage(role="assistant", content=answer))
        return self._like.model_copy(
            update={
                "id": f"planted-{id}",
                "session": f"planted-{id}",
                "messages": messages,
                "outcome": type(self._like.outcome)(),
            }
        )


def files_with(needles: list[bytes], *folders: Path) -> list[str]:
    """Files below the folders that hold any of the needles."""
    found = []
    for folder in folders:
        for path in (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
            content = path.read_bytes()
            found += [f"{path} holds needle {place}" for place, needle in enumerate(needles) if needle in content]
    return found


async def tables_with(needles: list[bytes], conn: Any) -> tuple[int, list[str]]:
    """How many tables were read, and those that hold any of the needles."""
    tables = await conn.fetch(
        "SELECT schemaname || '.' || tablename AS name FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    )
    found = []
    for name in sorted({row["name"] for row in tables} - ELSEWHERE):
        text = (await conn.fetchval(f"SELECT string_agg(t::text, E'\\n') FROM {name} t") or "").encode()
        found += [f"{name} holds needle {place}" for place, needle in enumerate(needles) if needle in text]
    return len(tables), found


def searched(settings: Settings) -> tuple[Path, ...]:
    """Everything a ritual writes but the database: the Lab, the Crypt, logs, the bus, containers."""
    home = settings.home
    return tuple(folder for folder in home.iterdir() if folder.is_dir() and folder.name not in ("postgres", "models"))
