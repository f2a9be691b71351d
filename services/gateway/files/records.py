"""What a file is read as: lines of OpenAI's chat and preference forms, by the readers of the import."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from shared.contracts.karma import LARGEST_RECORD
from shared.import_formats.formats import Format, Imported
from shared.import_formats.parser import Fault, parse_line
from shared.import_formats.reader import lines
from shared.import_formats.record import ImportDefaults

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from datetime import datetime
    from pathlib import Path

    from services.gateway.files.store import StoredFile
    from shared.contracts.karma import KarmaRecord

#: So that the record fits as PostgreSQL writes it, with a space after each comma and colon.
LARGEST_EXAMPLE = LARGEST_RECORD * 5 // 8
#: Of a record as JSON, with its names. It may be longer than its line: 1e15 becomes 1000000000000000.0.
LARGEST_JSON = LARGEST_EXAMPLE + 16 * 1024
TOO_LARGE = (
    f"too large as a record: longer than {LARGEST_JSON // 1024} KiB as JSON, where numbers have all their digits"
)


class FileChangedError(Exception):
    """A file that was checked holds a line that cannot be used; the message names it."""


def read_examples(path: Path, defaults: ImportDefaults) -> Generator[tuple[int, Imported | Fault]]:
    """The examples of a file with the numbers of their lines. A fault never quotes the content."""
    with path.open("rb") as file:
        for raw in lines(file):
            if raw.data is None or len(raw.data) > LARGEST_EXAMPLE:
                yield raw.line, Fault(path.name, raw.line, f"longer than {LARGEST_EXAMPLE // 1024} KiB")
            elif found := parse_line(path.name, raw.line, raw.data, Format.FINE_TUNING, defaults):
                yield raw.line, Fault(path.name, raw.line, TOO_LARGE) if _is_too_large(found) else found


def iterate_records(
    file: StoredFile, persona: str, source: str, consecrated_by: str | None, at: datetime | None
) -> Generator[KarmaRecord]:
    """The records that a file makes for a persona, the same at each call; a worse answer before its correction.

    With `consecrated_by` they are white truths from `at` on, but for the worse answers. Raises FileChangedError.
    """
    defaults = ImportDefaults(source, file.id, persona, consecrated_by, at)
    with closing(read_examples(file.path, defaults)) as examples:
        for line, found in examples:
            if isinstance(found, Fault):
                raise FileChangedError(
                    f"{file.id}: line {line} cannot be used any more ({found.why}): upload the file again"
                )
            yield from _named(found.records, f"{file.id}:{persona}:{line}")


def _named(records: tuple[KarmaRecord, ...], name: str) -> Iterator[KarmaRecord]:
    """Name the records by file, persona and line: each use of a file has records of its own, which its source counts."""
    ids = {record.id: f"{name}:{number}" for number, record in enumerate(records)}
    for record in records:
        yield record.model_copy(update={"id": ids[record.id], "parent": ids.get(record.parent or "")})


def _is_too_large(found: Imported | Fault) -> bool:
    """Whether a record would fit neither the bus nor the table."""
    return isinstance(found, Imported) and any(
        len(record.model_dump_json(exclude_defaults=True).encode()) > LARGEST_JSON for record in found.records
    )
