"""Load files of karma: read as streams, stored in batches; what is stored stays, so the same command continues."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import asyncpg

from deploy.cli.connect import database, unreachable_database
from deploy.cli.console import create_file, err
from deploy.cli.errors import UserError
from services.harvester.ingest.karma import list_circles, store_records
from shared.contracts.karma import PERSONA_PATTERN
from shared.contracts.visible import visible
from shared.import_formats.formats import FIELD, FILES, FOREIGN, Format
from shared.import_formats.parser import Fault, Line, parse_file
from shared.import_formats.record import ImportDefaults
from shared.import_formats.source import STDIN, check_file
from shared.storage.postgres import UNREACHABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.config.settings import Settings
    from shared.contracts.karma import KarmaRecord
    from shared.storage.postgres import Pool

BATCH = 1000
BATCH_BYTES = 8 * 1024**2
SHOWN = 20
LONGEST_NAME = 200
FOLDER_DIGITS = 6
MOST_UNREAD = 12
ENDINGS = re.compile(r"(\.(jsonl|ndjson|json|parquet|txt))?(\.gz)?$")
# What PostgreSQL refuses in one record must not keep the others of its batch out.
REFUSED = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)


@dataclass(frozen=True)
class ImportRequest:
    """What the command asks for; `errors` is the file that every fault is written to."""

    record_format: Format
    defaults: ImportDefaults
    errors: Path | None

    @classmethod
    def of(
        cls,
        record_format: str,
        persona: str | None,
        consecrated_by: str | None,
        session_by: str | None,
        errors: Path | None,
    ) -> ImportRequest:
        """Make the request. Raises UserError where an option cannot be used for any record."""
        if persona is not None and not re.fullmatch(PERSONA_PATTERN, persona):
            raise UserError(
                "--persona: a name has small letters, digits, _ and -, at most 41, and begins with a letter"
            )
        if Format(record_format) in (*FOREIGN, *FILES) and persona is None:
            raise UserError(f"records in the format {record_format} name no persona: name it with --persona")
        if consecrated_by is not None and not 0 < len(consecrated_by.strip()) <= LONGEST_NAME:
            raise UserError(f"--consecrated-by: expected who vouches for these, at most {LONGEST_NAME} characters")
        defaults = ImportDefaults("", "", persona, consecrated_by, datetime.now(UTC), session_by)
        return cls(Format(record_format), defaults, errors)


@dataclass
class ImportResult:
    """What became of the lines that were read."""

    new: int = 0
    known: int = 0
    wrong: int = 0
    shown: list[Fault] = field(default_factory=list)
    unread: Counter[str] = field(
        default_factory=Counter
    )  #: names of fields that change nothing -> records that have them
    errors: TextIO | None = None

    def add_fault(self, fault: Fault) -> None:
        self.wrong += 1
        if len(self.shown) < SHOWN:
            self.shown.append(fault)
        if self.errors:
            self.errors.write(visible(f"{fault}\n"))

    def __str__(self) -> str:
        return f"{self.new} new, {self.known} known already, {self.wrong} wrong"


@dataclass
class Batch:
    """Records that wait to be stored, each with the fault that is reported where PostgreSQL refuses it."""

    records: list[tuple[Fault, KarmaRecord]] = field(default_factory=list)
    read_bytes: int = 0

    def add(self, path: Path, line: Line, records: tuple[KarmaRecord, ...]) -> None:
        self.records += [(Fault(str(path), line.number, "PostgreSQL refuses it"), record) for record in records]
        self.read_bytes += line.read_bytes

    @property
    def full(self) -> bool:
        return len(self.records) >= BATCH or self.read_bytes >= BATCH_BYTES


def describe_unread(names: Counter[str]) -> str:
    """Names of fields with the number of records that have them; a name that may be anything is not shown."""
    shown = Counter[str]()
    for name, count in names.items():
        shown[name if FIELD.fullmatch(name) else "others"] += count
    listed = [f"{name} ({count})" for name, count in shown.most_common(MOST_UNREAD)]
    return ", ".join(listed) + (", …" if len(shown) > MOST_UNREAD else "")


async def load_files(settings: Settings, files: list[Path], request: ImportRequest) -> ImportResult:
    """Read every file and store its records in batches; each batch is one transaction. Raises UserError, SourceError."""
    sizes = {path: check_file(path) for path in files}
    with ExitStack() as stack:
        errors = stack.enter_context(create_file("--errors", request.errors)) if request.errors else None
        result, batch = ImportResult(errors=errors), Batch()
        async with database(settings) as pool:
            for path, line in _read(sizes, request):
                if isinstance(line.content, Fault):
                    result.add_fault(line.content)
                elif line.content:
                    result.unread.update(line.content.unread)
                    batch.add(path, line, line.content.records)
                if batch.full:
                    await _store(settings, pool, batch, result)
            await _store(settings, pool, batch, result)
        return result


def _read(sizes: dict[Path, int | None], request: ImportRequest) -> Iterator[tuple[Path, Line]]:
    """Read every line of every file, with a progress bar."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        for path, total in sizes.items():
            task = progress.add_task(path.name, total=total)
            for line in parse_file(path, request.record_format, _of_file(request.defaults, path)):
                progress.advance(task, line.read_bytes)
                yield path, line


def _of_file(defaults: ImportDefaults, path: Path) -> ImportDefaults:
    """The defaults for this file: two of one name in different folders do not share their sessions."""
    name = "stdin" if path == STDIN else ENDINGS.sub("", path.name) or path.name
    folder = hashlib.sha256(str(path.absolute().parent).encode()).hexdigest()[:FOLDER_DIGITS]
    return replace(defaults, file=name, sessions=f"{name}-{folder}")


async def _store(settings: Settings, pool: Pool, batch: Batch, result: ImportResult) -> None:
    try:
        await _refuse_circles(pool, batch, result)
        await _insert(pool, batch.records, result)
    except UNREACHABLE as error:
        away = unreachable_database(settings, error)
        raise UserError(
            f"{away}; so far {result}: what is stored stays, the same command continues from there (--errors: a new file)"
        ) from error
    batch.records, batch.read_bytes = [], 0


async def _refuse_circles(pool: Pool, batch: Batch, result: ImportResult) -> None:
    """Take the records out whose parents lead back to them: nothing shows which answer is the correction."""
    circles = await list_circles(pool, [record for _, record in batch.records])
    for place, record in batch.records:
        if circle := circles.get(record.id):
            result.add_fault(
                replace(place, why=f"its parents lead in a circle: {circle}; name what each corrects, or none")
            )
    batch.records = [entry for entry in batch.records if entry[1].id not in circles]


async def _insert(pool: Pool, records: list[tuple[Fault, KarmaRecord]], result: ImportResult) -> None:
    """Insert these records; where PostgreSQL refuses one, find it by halving and insert the others."""
    if not records:
        return
    try:
        async with pool.acquire() as conn, conn.transaction():
            new = await store_records(conn, [record for _, record in records])
    except REFUSED:
        if len(records) == 1:
            result.add_fault(records[0][0])
            return
        middle = len(records) // 2
        await _insert(pool, records[:middle], result)
        await _insert(pool, records[middle:], result)
    else:
        result.new += new
        result.known += len(records) - new
