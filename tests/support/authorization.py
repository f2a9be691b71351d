"""Tables of role × operation: rendered from what was tried, committed under docs/authorization, compared in the tests.

`SOULFORGE_WRITE_TABLES=1` before a test writes its table instead of comparing it. The diff is then to be reviewed: every
new "yes" is a permission granted.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from shared.config.settings import Settings

FOLDER = Path(__file__).parents[2] / "docs" / "authorization"
WRITES = os.environ.get("SOULFORGE_WRITE_TABLES") == "1"


@dataclass(frozen=True)
class Attempt:
    """One operation tried as one role, and whether the server let it through."""

    role: str
    operation: str
    allowed: bool


def render(attempts: Iterable[Attempt]) -> str:
    """Render a table as Markdown: a row per operation, a column per role, in the order of the attempts.

    Raises ValueError where a role was not tried with an operation, or twice.
    """
    tried: dict[tuple[str, str], bool] = {}
    for attempt in attempts:
        if (attempt.role, attempt.operation) in tried:
            raise ValueError(f"{attempt.role} tried {attempt.operation!r} twice")
        tried[attempt.role, attempt.operation] = attempt.allowed
    roles = list(dict.fromkeys(role for role, _ in tried))
    operations = list(dict.fromkeys(operation for _, operation in tried))
    if missing := [(role, operation) for role in roles for operation in operations if (role, operation) not in tried]:
        raise ValueError(f"not tried: {missing}")
    rows = [
        f"| {operation} | " + " | ".join("yes" if tried[role, operation] else "–" for role in roles) + " |"
        for operation in operations
    ]
    head = ["| operation | " + " | ".join(roles) + " |", "|---|" + ":-:|" * len(roles)]
    return "\n".join([*head, *rows, ""])


def compare(name: str, title: str, about: str, *tables: Iterable[Attempt]) -> None:
    """Fail where the servers allow or refuse other operations than docs/authorization/<name>.md has."""
    text = "\n".join([f"# {title}", "", about, "", *map(render, tables)])
    path = FOLDER / f"{name}.md"
    if WRITES:
        path.write_text(text)
    assert text.splitlines() == path.read_text().splitlines()


@asynccontextmanager
async def connected(settings: Settings, role: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(settings.database_url(role))
    try:
        yield connection
    finally:
        await connection.close()
