"""What a recall found, as a document of a stable shape and as trees."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from rich.text import Text
from rich.tree import Tree

from deploy.cli.format import short_digest, short_id
from services.harvester.views import KnownRecord
from services.registry.views import Outcome
from shared.contracts.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SHOWN = 20


class Made(Frozen):
    """A ritual that was given a manifest, and what it came to. `alias` is the one that points to its version."""

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
    """One record and the manifests that hold it. Without a persona it is not remembered here."""

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
    known: Mapping[str, KnownRecord],
    used: Mapping[str, tuple[str, ...]],
    outcomes: Mapping[str, Iterable[Outcome]],
) -> RecallReport:
    """Build the report. `known` by id, `used` id → manifests, `outcomes` manifest → what its rituals came to."""
    ids = list(ids)
    unknown = tuple(id for id in ids if id not in known and id not in used)
    uses = {name: Use(manifest=name, rituals=tuple(map(_made, found))) for name, found in outcomes.items()}
    records = tuple(
        _record(known.get(id, KnownRecord(id)), tuple(uses.get(name, Use(manifest=name)) for name in used.get(id, ())))
        for id in ids
        if id not in unknown
    )
    return RecallReport(records=records, unknown=unknown)


def _record(known: KnownRecord, manifests: tuple[Use, ...]) -> Record:
    return Record(
        karma=known.id,
        persona=known.persona,
        status=known.status,
        revoked_at=known.revoked_at,
        revoked_by=known.revoked_by,
        why=known.why,
        manifests=manifests,
    )


def _made(outcome: Outcome) -> Made:
    return Made(
        ritual=outcome.ritual,
        persona=outcome.persona,
        state=outcome.state,
        version=outcome.version,
        withdrawn_at=outcome.withdrawn_at,
        alias=outcome.persona if outcome.serves else None,
    )


def recall_view(report: RecallReport) -> Iterator[Tree | Text]:
    """A tree for each of the first records."""
    for record in report.records[:SHOWN]:
        yield _tree(record)
    if len(report.records) > SHOWN:
        yield Text(f"… and {len(report.records) - SHOWN} more records: `soulforge recall ID... --json` lists all")


def _tree(record: Record) -> Tree:
    tree = Tree(Text.assemble("karma ", (record.karma, "bold"), f"  {_status(record)}"))
    for use in record.manifests:
        branch = tree.add(f"manifest {short_digest(use.manifest)}")
        for made in use.rituals:
            ritual = branch.add(f"ritual {short_id(made.ritual)}  {made.persona}  {made.state}")
            if made.version:
                ritual.add(Text(f"adapter {made.version}  ").append_text(_serving(made)))
    if not record.manifests:
        tree.add("in no manifest")
    return tree


def _status(record: Record) -> str:
    parts = [record.persona or "not remembered here", record.status or ""]
    if record.revoked_at:
        parts.append(f"revoked {record.revoked_at:%Y-%m-%d %H:%M} by {record.revoked_by}")
    parts += [record.why] if record.why else []
    return ", ".join(part for part in parts if part and not (part == "revoked" and record.revoked_at))


def _serving(made: Made) -> Text:
    if made.alias:
        return Text(f"serves as {made.alias}", "red")
    return Text(f"withdrawn {made.withdrawn_at:%Y-%m-%d %H:%M}" if made.withdrawn_at else "no alias points to it")
