"""`soulforge recall`: from a record to every manifest, ritual, adapter and alias that holds it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.connect import database, load_settings
from deploy.cli.console import out, print_error, print_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deploy.cli.views.recall import RecallReport
    from shared.config.settings import Settings

PANEL = "Karma"


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(recall)


def recall(
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="Ids of karma records.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document of a stable shape, for programs.")] = False,
) -> None:
    """Find everything that was built from these records.

    Manifests, rituals, adapters, and the aliases that point to them. The exit code is 1 where one of the ids is unknown.
    """
    report = asyncio.run(look_up(load_settings(), ids))
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        print_report(report)
    raise typer.Exit(1 if report.unknown else 0)


def print_report(report: RecallReport) -> None:
    """Print the trees, and an error for ids that are unknown."""
    from deploy.cli.views.recall import recall_view

    for tree in recall_view(report):
        out.print(tree)
    if report.unknown:
        print_error(f"unknown: {', '.join(report.unknown)} (never imported here, revoked, or used)")


async def look_up(settings: Settings, ids: Iterable[str]) -> RecallReport:
    """Find everything that was built from these records."""
    from deploy.cli.views.recall import build_recall
    from services.harvester.views import list_manifests_of, list_records, list_rituals_of
    from services.registry.views import list_outcomes

    ids = list(dict.fromkeys(ids))
    async with database(settings) as pool:
        known = await list_records(pool, ids)
        used = await list_manifests_of(pool, ids)
        rituals = await list_rituals_of(pool, {manifest for found in used.values() for manifest in found})
        outcomes = await list_outcomes(pool, {ritual for found in rituals.values() for ritual in found})
    by_manifest = {manifest: [outcomes[ritual] for ritual in found] for manifest, found in rituals.items()}
    return build_recall(ids, known, used, by_manifest)
