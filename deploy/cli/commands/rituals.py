"""`soulforge rituals` and `soulforge show`: what was asked for and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.connect import database, load_settings
from deploy.cli.console import out

if TYPE_CHECKING:
    from deploy.cli.views.report import RitualReport
    from shared.settings import Settings

PANEL = "Rituals"
SHOWN = 20


def register(app: typer.Typer) -> None:
    for command in (rituals, show):
        app.command(rich_help_panel=PANEL)(command)


def rituals(limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = SHOWN) -> None:
    """List the newest rituals."""
    import asyncio

    from deploy.cli.views.rituals import listing

    rows = asyncio.run(_listed(load_settings(), limit))
    if not rows:
        out.print("no ritual yet: `soulforge intend PERSONA` asks for one")
        return
    out.print(listing(rows))


async def _listed(settings: Settings, limit: int) -> list[dict[str, Any]]:
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
    import asyncio

    report = asyncio.run(_report(load_settings(), ritual))
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
        return
    from deploy.cli.views.rituals import view

    out.print(view(report))


async def _report(settings: Settings, given: str) -> RitualReport:
    from deploy.cli.errors import UserError
    from deploy.cli.queries.rituals import count_excluded, find_ritual
    from deploy.cli.sight import look
    from deploy.cli.views.report import build_report

    async with database(settings) as pool:
        ritual = await find_ritual(pool, given)
        sight = await look(pool, ritual)
        excluded = await count_excluded(pool, ritual)
    if sight is None:
        raise UserError(f"ritual {ritual} is no longer in the ledger")
    return build_report(sight.ritual, sight.facts, sight.hand_overs, excluded, settings.phoenix_url, sight.tipping)
