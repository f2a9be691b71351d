"""Which folders of the Lab may go: a pure decision from what is there, who needs what, and how old it is.

Needed is what an open ritual, an unreplayed dead letter, or a version that serves or may serve again was made from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from shared.contracts.ritual import State

if TYPE_CHECKING:
    from services.harvester.views import Manifest
    from services.registry.views import KeptVersion
    from shared.config.tables import PruneConfig
    from shared.ritual.views import Lineage


class Kind(StrEnum):
    """What a folder of the Lab holds."""

    CHECKPOINTS = "checkpoints"
    RUNS = "runs"
    MANIFEST = "manifests"
    HOLDOUT = "holdouts"


@dataclass(frozen=True)
class Folder:
    """A folder of the Lab. `name` is that of its ritual, or its digest without the prefix."""

    kind: Kind
    name: str
    path: Path
    changed_at: datetime


@dataclass(frozen=True)
class History:
    """The rows that the decision is made from. `lettered`: the rituals that unreplayed dead letters are about.

    `whole`: the adapters of kept versions whose bundle in the Crypt is whole.
    """

    now: datetime
    lineages: tuple[Lineage, ...] = ()
    manifests: tuple[Manifest, ...] = ()
    kept: tuple[KeptVersion, ...] = ()
    whole: frozenset[str] = frozenset()
    lettered: frozenset[UUID] = frozenset()


@dataclass(frozen=True)
class Ages:
    """From which age each kind goes."""

    outbox: timedelta
    errors: timedelta
    checkpoints: timedelta
    runs: timedelta
    banished: timedelta
    manifests: timedelta


def get_ages(config: PruneConfig, older_than_days: int | None = None) -> Ages:
    """The configured ages, or one age for everything."""
    return Ages(
        *(timedelta(days=older_than_days or getattr(config, f"{name}_days")) for name in Ages.__dataclass_fields__)
    )


def decide(folders: Iterable[Folder], history: History, ages: Ages) -> list[Folder]:
    """The folders that go. A ritual that the history does not have keeps its runs."""
    rituals, digests = needed_rituals(history), needed_digests(history)
    runs, files = _runs_since(history), _used_at(history)
    ended = {str(ritual): since for ritual, since in runs.items() if ritual not in rituals}
    banished = {str(line.ritual) for line in history.lineages if line.state is State.BANISHED}

    def goes(folder: Folder) -> bool:
        if folder.kind in (Kind.MANIFEST, Kind.HOLDOUT):
            used_at = max(folder.changed_at, files.get(folder.name, folder.changed_at))
            return folder.name not in digests and used_at < history.now - ages.manifests
        age = ages.banished if folder.name in banished else ages.runs
        age = ages.checkpoints if folder.kind is Kind.CHECKPOINTS else age
        return folder.name in ended and ended[folder.name] < history.now - age

    gone = [folder for folder in folders if goes(folder)]
    whole_runs = {folder.name for folder in gone if folder.kind is Kind.RUNS}
    return [folder for folder in gone if folder.kind is not Kind.CHECKPOINTS or folder.name not in whole_runs]


def needed_rituals(history: History) -> frozenset[UUID]:
    """The rituals whose runs are needed: also those of a kept version whose bundle is not whole, to restore it from."""
    adapters = {version.adapter for version in history.kept} - history.whole
    of_versions = {version.ritual for version in history.kept if version.adapter in adapters}
    made = {line.ritual for line in history.lineages if line.ended_at is None or line.adapter in adapters}
    return frozenset(made | of_versions | history.lettered)


def needed_digests(history: History) -> frozenset[str]:
    """The manifests and holdouts that are needed: those of kept versions in any case, and the last of each persona."""
    adapters, rituals = ({version.adapter for version in history.kept}, {version.ritual for version in history.kept})
    rituals |= needed_rituals(history)
    lines = [line for line in history.lineages if line.ritual in rituals or line.adapter in adapters]
    pairs = {(line.manifest, line.holdout) for line in lines}
    used_at, last = _used_at(history), dict[str, "Manifest"]()
    for row in sorted(history.manifests, key=lambda row: used_at[_name(row.digest)]):
        last[row.persona] = row
    pairs |= {(row.digest, row.holdout) for row in last.values()}
    return frozenset(_name(digest) for pair in pairs for digest in pair if digest)


def _runs_since(history: History) -> dict[UUID, datetime]:
    """When each ritual ended, without those that are open."""
    return {line.ritual: line.ended_at for line in history.lineages if line.ended_at}


def _used_at(history: History) -> dict[str, datetime]:
    """When each manifest and holdout was last used, by name."""
    uses = [(digest, row.created_at) for row in history.manifests for digest in (row.digest, row.holdout)]
    for line in history.lineages:
        moments = (line.harvested_at, line.ended_at)
        uses += [(digest, at) for digest in (line.manifest, line.holdout) for at in moments if digest and at]
    found: dict[str, datetime] = {}
    for digest, at in uses:
        found[_name(digest)] = max(at, found.get(_name(digest), at))
    return found


def _name(digest: str) -> str:
    return digest.removeprefix("sha256:")
