"""`soulforge rituals` and `soulforge show`: what was asked for and what came of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.connect import database, load_settings
from deploy.cli.console import out, print_json
from deploy.cli.errors import UserError

if TYPE_CHECKING:
    from deploy.cli.queries.rituals import ListedRitual, Snapshot
    from shared.config.settings import Settings

PANEL = "Rituals"
SHOWN = 20


def register(app: typer.Typer) -> None:
    for command in (rituals, show):
        app.command(rich_help_panel=PANEL)(command)


def rituals(limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = SHOWN) -> None:
    """List the newest rituals."""
    from deploy.cli.views.rituals import list_view

    found = asyncio.run(_list(load_settings(), limit))
    out.print(list_view(found) if found else "no ritual yet: `soulforge intend PERSONA` asks for one")


async def _list(settings: Settings, limit: int) -> list[ListedRitual]:
    from deploy.cli.queries.rituals import list_rituals

    async with database(settings) as pool:
        return await list_rituals(pool, limit)


def show(
    ritual: Annotated[str, typer.Argument(help="The ritual, by the first digits of its id.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document of a stable shape, for programs.")] = False,
) -> None:
    """Show all that is known of one ritual.

    States with times, digests and counts, scores of both arms with intervals, hand-overs of the anvil, and the trace.
    """
    from deploy.cli.views.report import build_report
    from deploy.cli.views.rituals import report_view

    settings = load_settings()
    snapshot, excluded, contradictions = asyncio.run(get_known(settings, ritual))
    report = build_report(snapshot, excluded, settings.phoenix_url, contradictions)
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        out.print(report_view(report, snapshot.facts))


async def get_known(settings: Settings, given: str) -> tuple[Snapshot, dict[str, int], list[tuple[str, str]]]:
    """The ritual, how many records were left out of it, by reason, and which of the used ones contradict."""
    from deploy.cli.queries.rituals import find_ritual, get_snapshot
    from services.harvester.views import count_excluded, list_contradictions

    async with database(settings) as pool:
        ritual = await find_ritual(pool, given)
        snapshot = await get_snapshot(pool, ritual)
        excluded = await count_excluded(pool, ritual)
        contradictions = await list_contradictions(pool, ritual)
    if snapshot is None:
        raise UserError(f"ritual {ritual} is no longer in the ledger")
    return snapshot, excluded, contradictions
