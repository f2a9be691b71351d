"""Prune an installation: read what is there and who needs it, decide, move into the trash, delete rows, empty the trash."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import UUID

from deploy.home import MARK, is_claimed
from deploy.prune.decide import Folder, History, Kind, decide
from deploy.prune.lab import empty_trash, get_size, list_folders, move_to_trash
from deploy.services import SERVICES
from services.harvester.views import list_manifests
from services.registry.bundle import BundleError, check
from services.registry.views import KeptVersion, list_kept
from shared.messaging.dead_letters import DeadLetter, list_dead_letters
from shared.messaging.outbox import count_published, delete_published
from shared.ritual.errors import count_errors_of_ended, delete_errors_of_ended
from shared.ritual.views import list_lineages
from shared.storage.artifacts import PRUNING, Artifacts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from deploy.prune.decide import Ages
    from shared.storage.postgres import Connection, Pool


class PruneError(Exception):
    """Nothing can be pruned now; the message has the reason and what to do."""


@dataclass(frozen=True)
class Removed:
    """How much of a kind was removed, or would be."""

    kind: str
    count: int
    bytes: int


@dataclass(frozen=True)
class Report:
    """What was removed; `left` names what was left alone or could not be removed, with the reason."""

    removed: tuple[Removed, ...]
    left: tuple[str, ...]


async def prune(pool: Pool, home: Path, ages: Ages, dry_run: bool) -> Report:
    """Remove what nothing needs and is old enough. It may be interrupted and repeated. Raises PruneError.

    A dry run changes nothing.
    """
    if not is_claimed(home):
        raise PruneError(f"{home} is no home of Soulforge (it has no {MARK}): set SOULFORGE_HOME to one")
    artifacts = Artifacts(home)
    async with pool.acquire() as conn, _alone(conn):
        listed = await asyncio.to_thread(list_folders, artifacts)
        history = await _read_history(conn, artifacts)
        gone, left = decide(listed.folders, history, ages), list(listed.left)
        left += _unknown(listed.folders, history)
        paths = [(folder.kind, folder.path) for folder in gone]
        if not dry_run:
            paths = await asyncio.to_thread(_move, artifacts, gone, left)
    sizes = await asyncio.to_thread(_measure, paths)
    if not dry_run:
        left += await asyncio.to_thread(empty_trash, artifacts)
    return Report((*sizes, *await _prune_rows(pool, ages, dry_run)), tuple(left))


@asynccontextmanager
async def _alone(conn: Connection) -> AsyncIterator[None]:
    """Keep harvests and other pruners out: a harvest may publish what is there already, and nobody needs until it ends."""
    if not await conn.fetchval("SELECT pg_try_advisory_lock(hashtextextended($1, 0))", PRUNING):
        raise PruneError("a harvest or another pruner is under way: try again when it is done (`soulforge status`)")
    try:
        yield
    finally:
        await conn.execute("SELECT pg_advisory_unlock(hashtextextended($1, 0))", PRUNING)


async def _read_history(conn: Connection, artifacts: Artifacts) -> History:
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        history = History(
            now=await conn.fetchval("SELECT clock_timestamp()"),
            lineages=tuple(await list_lineages(conn)),
            manifests=tuple(await list_manifests(conn)),
            kept=tuple(await list_kept(conn)),
            lettered=frozenset([ritual for letter in await _list_letters(conn) if (ritual := _ritual_of(letter))]),
        )
    return replace(history, whole=await asyncio.to_thread(_list_whole, artifacts, history.kept))


async def _list_letters(conn: Connection) -> list[DeadLetter]:
    return [letter for service in SERVICES for letter in await list_dead_letters(conn, service)]


def _ritual_of(letter: DeadLetter) -> UUID | None:
    """The ritual that a dead letter is about; None where it names none, or was replayed."""
    if letter.replayed_at or letter.body is None:
        return None
    try:
        return UUID(json.loads(letter.body)["ritual"])
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def _list_whole(artifacts: Artifacts, versions: Iterable[KeptVersion]) -> frozenset[str]:
    """The adapters whose bundle is in the Crypt as it was frozen."""
    whole = set()
    for version in versions:
        try:
            check(artifacts.bundle(version.adapter), version.adapter)
            whole.add(version.adapter)
        except (BundleError, OSError):
            continue
    return frozenset(whole)


def _unknown(folders: Iterable[Folder], history: History) -> list[str]:
    known = {str(line.ritual) for line in history.lineages}
    return [
        f"{folder.path}: the ledger has no such ritual"
        for folder in folders
        if folder.kind is Kind.RUNS and folder.name not in known
    ]


def _move(artifacts: Artifacts, gone: Iterable[Folder], left: list[str]) -> list[tuple[Kind, Path]]:
    moved = []
    for folder in gone:
        try:
            moved.append((folder.kind, move_to_trash(artifacts, folder)))
        except OSError as error:
            left.append(f"{folder.path}: {error.strerror}")
    return moved


def _measure(folders: list[tuple[Kind, Path]]) -> list[Removed]:
    counts, sizes = Counter(kind for kind, _ in folders), Counter[Kind]()
    for kind, path in folders:
        sizes[kind] += get_size(path)
    return [Removed(kind, counts[kind], sizes[kind]) for kind in Kind]


async def _prune_rows(pool: Pool, ages: Ages, dry_run: bool) -> list[Removed]:
    outbox = count_published if dry_run else delete_published
    errors = count_errors_of_ended if dry_run else delete_errors_of_ended
    messages = [await outbox(pool, service, ages.outbox) for service in SERVICES]
    sizes = (sum(found.count for found in messages), sum(found.bytes for found in messages))
    return [
        Removed("published messages", *sizes),
        Removed("errors of ended rituals", await errors(pool, ages.errors), 0),
    ]
