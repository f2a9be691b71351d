"""What a recall found, as values of a stable shape and as a picture."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rich.markup import escape
from rich.text import Text
from rich.tree import Tree

from deploy.cli.format import short_digest, short_id
from shared.contracts.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SHOWN = 20


class Made(Frozen):
    """A ritual that was given a manifest, and what it came to. `alias` is the name that points to its version."""

    ritual: UUID
    persona: str
    state: str
    version: str | None = None
    withdrawn_at: datetime | None = None
    alias: str | None = None


class Use(Frozen):
    """A manifest that holds the record, in train, dev or holdout."""

    manifest: str
    rituals: tuple[Made, ...] = ()


class Record(Frozen):
    """One record and where it got to. Without a persona it is not remembered (any more)."""

    karma: str
    persona: str | None = None
    status: str | None = None
    revoked_at: datetime | None = None
    revoked_by: str | None = None
    why: str | None = None
    manifests: tuple[Use, ...] = ()


class RecallReport(Frozen):
    """Everything that was built from some records."""

    records: tuple[Record, ...]
    unknown: tuple[str, ...] = ()


def build_recall(
    ids: Iterable[str],
    known: Mapping[str, dict[str, Any]],
    used: Mapping[str, tuple[str, ...]],
    rituals: Mapping[str, list[dict[str, Any]]],
) -> RecallReport:
    """`known` by id, `used` id → manifests, `rituals` manifest → rows of rituals and their versions."""
    ids = list(ids)
    unknown = tuple(id for id in ids if id not in known and id not in used)
    uses = {name: Use(manifest=name, rituals=tuple(_made(row) for row in rows)) for name, rows in rituals.items()}
    records = tuple(
        Record(
            karma=id,
            **{name: value for name, value in known.get(id, {}).items() if name != "id"},
            manifests=tuple(uses.get(name, Use(manifest=name)) for name in used.get(id, ())),
        )
        for id in ids
        if id not in unknown
    )
    return RecallReport(records=records, unknown=unknown)


def _made(row: dict[str, Any]) -> Made:
    return Made(
        ritual=row["id"],
        persona=row["persona"],
        state=row["state"],
        version=row["version"],
        withdrawn_at=row["withdrawn_at"],
        alias=row["persona"] if row["serves"] else None,
    )


def pictures(report: RecallReport) -> Iterator[Tree | Text]:
    """A tree for every record."""
    for record in report.records[:SHOWN]:
        yield _tree(record)
    if len(report.records) > SHOWN:
        yield Text(f"… and {len(report.records) - SHOWN} more records: `soulforge recall ID... --json` tells of all")


def _tree(record: Record) -> Tree:
    tree = Tree(f"karma [bold]{escape(record.karma)}[/]  {escape(_standing(record))}")
    for use in record.manifests:
        branch = tree.add(f"manifest {_digest(use.manifest)}")
        for made in use.rituals:
            ritual = branch.add(f"ritual {short_id(made.ritual)}  {escape(made.persona)}  {made.state}")
            if made.version:
                ritual.add(f"adapter {escape(made.version)}  {_serving(made)}")
    if not record.manifests:
        tree.add("in no manifest")
    return tree


def _standing(record: Record) -> str:
    told = [record.persona or "not remembered here", record.status or ""]
    if record.revoked_at:
        told.append(f"revoked {record.revoked_at:%Y-%m-%d %H:%M} by {record.revoked_by}")
    told += [record.why] if record.why else []
    return ", ".join(part for part in told if part and not (part == "revoked" and record.revoked_at))


def _serving(made: Made) -> str:
    if made.alias:
        return f"[red]serves as {escape(made.alias)}[/]"
    return f"withdrawn {made.withdrawn_at:%Y-%m-%d %H:%M}" if made.withdrawn_at else "no name points to it"


def _digest(digest: str) -> str:
    return escape(short_digest(digest))
