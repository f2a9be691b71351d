"""SQL of the uploaded files, and where their content lies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from services.gateway.files.upload import Received
    from shared.storage.postgres import Source

LEAST_EXAMPLES = 10  #: of a training file, as OpenAI documents it
COLUMNS = "id, key, filename, purpose, bytes, sha256, status, status_details, examples, records, created_at, deleted_at"


class FileStatus(StrEnum):
    """OpenAI's words."""

    UPLOADED = "uploaded"  #: whole on the disk, not checked yet
    PROCESSED = "processed"  #: each line can be used
    ERROR = "error"  #: the details name the lines that cannot


@dataclass(frozen=True)
class StoredFile:
    """An uploaded file; `path` has its content until it is deleted. `bytes` is its size, `key` the id of its client's key."""

    id: str
    key: str
    filename: str
    purpose: str
    bytes: int
    sha256: str
    status: FileStatus
    status_details: str | None
    examples: int | None
    records: int | None
    created_at: datetime
    deleted_at: datetime | None
    path: Path

    @property
    def trouble(self) -> str | None:
        """Why no job can use it; None where one can, and where it is not checked yet."""
        if self.deleted_at:
            return "it is deleted"
        return self.status_details if self.status is FileStatus.ERROR else None

    def card(self) -> dict[str, Any]:
        """OpenAI's file object."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": int(self.created_at.timestamp()),
            "filename": self.filename,
            "purpose": self.purpose,
            "status": self.status,
            "status_details": self.status_details,
            "expires_at": None,
        }


def folder_of(home: Path) -> Path:
    """Where the content of the files lies, each under its id."""
    return home / "gateway" / "files"


async def insert_file(source: Source, home: Path, id: str, key: str, received: Received) -> StoredFile:
    row = await source.fetchrow(
        "INSERT INTO file (id, key, filename, purpose, bytes, sha256) VALUES ($1, $2, $3, 'fine-tune', $4, $5) "
        f"RETURNING {COLUMNS}",
        id,
        key,
        received.filename,
        received.bytes,
        received.sha256,
    )
    return _stored(row, home)


async def get_file(source: Source, home: Path, id: str) -> StoredFile | None:
    """The file of this id, also one that is deleted."""
    row = await source.fetchrow(f"SELECT {COLUMNS} FROM file WHERE id = $1", id)
    return _stored(row, home) if row else None


async def list_files(
    source: Source, home: Path, key: str | None, after: str | None, limit: int, oldest_first: bool
) -> list[StoredFile]:
    """The files of a key (None: of all), by the time of their upload, from the one behind `after` on."""
    beyond, order = (">", "ASC") if oldest_first else ("<", "DESC")
    rows = await source.fetch(
        f"SELECT {COLUMNS} FROM file WHERE deleted_at IS NULL AND ($1::text IS NULL OR key = $1) "
        f"AND ($2::text IS NULL OR (created_at, id) {beyond} (SELECT created_at, id FROM file WHERE id = $2)) "
        f"ORDER BY created_at {order}, id {order} LIMIT $3",
        key,
        after,
        limit,
    )
    return [_stored(row, home) for row in rows]


async def mark_deleted(source: Source, id: str) -> bool:
    """False where it was deleted before, or a job that has not ended uses it."""
    return bool(
        await source.fetchval(
            "UPDATE file SET deleted_at = clock_timestamp() WHERE id = $1 AND deleted_at IS NULL AND NOT EXISTS ("
            "SELECT FROM job WHERE ended_at IS NULL AND $1 IN (training_file, validation_file)) RETURNING id",
            id,
        )
    )


async def list_unchecked(source: Source, home: Path) -> list[StoredFile]:
    """The files that were not checked yet, the smallest first."""
    rows = await source.fetch(
        f"SELECT {COLUMNS} FROM file WHERE status = 'uploaded' AND deleted_at IS NULL ORDER BY bytes, id"
    )
    return [_stored(row, home) for row in rows]


async def record_checked(source: Source, id: str, examples: int, records: int, why: str | None) -> None:
    """Record what the check of a file found; `why` it cannot be used, or None."""
    await source.execute(
        "UPDATE file SET status = $2, status_details = $3, examples = $4, records = $5 "
        "WHERE id = $1 AND status = 'uploaded'",
        id,
        FileStatus.ERROR if why else FileStatus.PROCESSED,
        why,
        examples,
        records,
    )


async def list_known(source: Source, ids: list[str]) -> dict[str, bool]:
    """The files of these ids, and whether each is deleted."""
    rows = await source.fetch("SELECT id, deleted_at IS NOT NULL AS deleted FROM file WHERE id = ANY($1)", ids)
    return {row["id"]: row["deleted"] for row in rows}


def _stored(row: Any, home: Path) -> StoredFile:
    values = dict(row)
    return StoredFile(**values | {"status": FileStatus(values["status"]), "path": folder_of(home) / values["id"]})
