"""`soulforge prune`: remove what nothing needs and is old enough."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.connect import database, load_settings
from deploy.cli.console import out, print_note
from deploy.cli.format import LONGEST_DAYS, size

if TYPE_CHECKING:
    from deploy.prune.prune import Report
    from shared.config.settings import Settings

PANEL = "Repair"


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(prune)


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    older_than: Annotated[
        int | None,
        typer.Option(
            "--older-than", metavar="DAYS", min=1, max=LONGEST_DAYS, help="One age for everything. Default: [prune]."
        ),
    ] = None,
) -> None:
    """Remove what nothing needs and is old enough.

    Old runs, manifests and holdouts in the Lab, published messages, errors of ended rituals. What an open ritual, a dead
    letter, or a version that serves or may serve again was made from stays. `[prune]` in soulforge.toml has the ages.
    """
    report = asyncio.run(_prune(load_settings(), dry_run, older_than))
    _show(report)
    if dry_run:
        print_note("a dry run: nothing was removed")


async def _prune(settings: Settings, dry_run: bool, older_than: int | None) -> Report:
    from deploy.prune.decide import get_ages
    from deploy.prune.prune import prune
    from deploy.services import load_configuration

    ages = get_ages(load_configuration(settings).prune, older_than)
    async with database(settings) as pool:
        return await prune(pool, settings.home, ages, dry_run)


def _show(report: Report) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("what", "how many", "bytes"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for removed in report.removed:
        table.add_row(removed.kind, str(removed.count), size(removed.bytes))
    out.print(table)
    for line in report.left:
        print_note(f"left alone: {line}")
