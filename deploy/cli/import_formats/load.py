"""Bringing files of karma in: read as streams, stored in batches; what is stored stays, so the same command goes on."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import asyncpg

from deploy.cli.connect import database, unreachable_database
from deploy.cli.console import err
from deploy.cli.errors import UserError
from deploy.cli.import_formats.formats import FOREIGN, Form
from deploy.cli.import_formats.parser import Line, WrongLine, lines
from deploy.cli.import_formats.reader import check_file
from deploy.cli.import_formats.record import Given
from services.harvester.remember import remember
from shared.contracts.karma import PERSONA_PATTERN
from shared.postgres import UNREACHABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.contracts.karma import KarmaRecord
    from shared.postgres import Pool
    from shared.settings import Settings

BATCH = 1000
BATCH_BYTES = 8 * 1024**2
SHOWN = 20
LONGEST_NAME = 200
# What PostgreSQL refuses in one record must not keep the others of its batch out.
REFUSED = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)


@dataclass(frozen=True)
class Order:
    """What the command asks for."""

    form: Form
    given: Given
    errors: Path | None

    @classmethod
    def of(
        cls, form: str, persona: str | None, consecrated_by: str | None, session_by: str | None, errors: Path | None
    ) -> Order:
        """Raises UserError where what is given cannot be used for any record."""
        if persona is not None and not re.fullmatch(PERSONA_PATTERN, persona):
            raise UserError(
                "--persona: a name has small letters, digits, _ and -, at most 41, and begins with a letter"
            )
        if Form(form) in FOREIGN and persona is None:
            raise UserError(f"records in the form {form} do not say whose they are: name it with --persona")
        if consecrated_by is not None and not 0 < len(consecrated_by.strip()) <= LONGEST_NAME:
            raise UserError(f"--consecrated-by: expected who vouches for these, at most {LONGEST_NAME} characters")
        given = Given("", persona, consecrated_by, datetime.now(UTC), session_by)
        return cls(Form(form), given, errors)

    def of_file(self, path: Path) -> Given:
        return Given(
            path.stem, self.given.persona, self.given.consecrated_by, self.given.consecrated_at, self.given.session_by
        )


@dataclass
class Tally:
    """What became of the lines that were read."""

    new: int = 0
    known: int = 0
    wrong: int = 0
    shown: list[WrongLine] = field(default_factory=list)
    errors: TextIO | None = None

    def blame(self, wrong: WrongLine) -> None:
        self.wrong += 1
        if len(self.shown) < SHOWN:
            self.shown.append(wrong)
        if self.errors:
            self.errors.write(f"{wrong}\n")

    def __str__(self) -> str:
        return f"{self.new} new, {self.known} known already, {self.wrong} wrong"


@dataclass
class Batch:
    """Records that wait to be stored, and where they stand."""

    records: list[tuple[WrongLine, KarmaRecord]] = field(default_factory=list)
    read_bytes: int = 0

    def add(self, path: Path, line: Line, record: KarmaRecord) -> None:
        self.records.append((WrongLine(str(path), line.number, "PostgreSQL refuses it"), record))
        self.read_bytes += line.read_bytes

    @property
    def full(self) -> bool:
        return len(self.records) >= BATCH or self.read_bytes >= BATCH_BYTES


async def bring_in(settings: Settings, files: list[Path], order: Order) -> Tally:
    """Read every file as a stream and store its records in batches; each batch is one transaction. Raises UserError."""
    sizes = {path: check_file(path) for path in files}
    with ExitStack() as stack:
        tally, batch = Tally(errors=_open(stack, order.errors)), Batch()
        async with database(settings) as pool:
            for path, line in _read(sizes, order):
                if isinstance(line.content, WrongLine):
                    tally.blame(line.content)
                elif line.content:
                    batch.add(path, line, line.content)
                if batch.full:
                    await _store(settings, pool, batch, tally)
            await _store(settings, pool, batch, tally)
        return tally


def _open(stack: ExitStack, errors: Path | None) -> TextIO | None:
    try:
        return stack.enter_context(errors.open("w", encoding="utf-8")) if errors else None
    except OSError as error:
        raise UserError(f"--errors: {errors} cannot be written: {error.strerror}") from error


def _read(sizes: dict[Path, int], order: Order) -> Iterator[tuple[Path, Line]]:
    """Every line of every file, with its progress shown."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        for path, total in sizes.items():
            task = progress.add_task(path.name, total=total)
            for line in lines(path, order.form, order.of_file(path)):
                progress.advance(task, line.read_bytes)
                yield path, line


async def _store(settings: Settings, pool: Pool, batch: Batch, tally: Tally) -> None:
    try:
        await _keep(pool, batch.records, tally)
    except UNREACHABLE as error:
        silent = unreachable_database(settings, error)
        raise UserError(
            f"{silent}; so far {tally}: what is stored stays, the same command goes on from there"
        ) from error
    batch.records, batch.read_bytes = [], 0


async def _keep(pool: Pool, records: list[tuple[WrongLine, KarmaRecord]], tally: Tally) -> None:
    """Store these records; where PostgreSQL refuses one, look for it by halves and store the others."""
    if not records:
        return
    try:
        async with pool.acquire() as conn, conn.transaction():
            new = await remember(conn, [record for _, record in records])
    except REFUSED:
        if len(records) == 1:
            tally.blame(records[0][0])
            return
        middle = len(records) // 2
        await _keep(pool, records[:middle], tally)
        await _keep(pool, records[middle:], tally)
    else:
        tally.new += new
        tally.known += len(records) - new
