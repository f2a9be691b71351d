"""`soulforge karma explain`: what would become of one record, and why."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.commands.karma import gather_ids, group
from deploy.cli.connect import database, load_settings
from deploy.cli.console import err, out, print_json
from deploy.cli.errors import UserError

if TYPE_CHECKING:
    from services.harvester.explain import Explanation
    from shared.config.settings import Settings


def register(_: typer.Typer) -> None:
    group.command()(explain)


def explain(
    id: Annotated[str, typer.Argument(metavar="ID", help="Id of a karma record.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document of a stable shape, for programs.")] = False,
) -> None:
    """Show what would become of a record now, and why.

    Also what past rituals did with it. All karma of its persona is judged as in a harvest; nothing is changed.
    """
    from deploy.cli.views.explain import explanation_view

    found = asyncio.run(_explain(load_settings(), *gather_ids([id], None)))
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        out.print(explanation_view(found))


async def _explain(settings: Settings, id: str) -> Explanation:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    from deploy.services import load_configuration
    from services.harvester.explain import explain
    from services.harvester.views import list_records

    configuration = load_configuration(settings)
    async with database(settings) as pool:
        known = (await list_records(pool, [id])).get(id)
        if known is None:
            raise UserError(
                f"{id} is not remembered: it was never imported here, or has another id (`soulforge karma stats`)"
            )
        if known.persona is None:
            raise UserError(
                f"{id} is not remembered; {known.revoked_by} revoked it, so it stays out if it is ever imported"
            )
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(markup=False))
        with Progress(*columns, console=err, transient=True) as progress:
            task = progress.add_task("reading", total=None)

            def show(phase: str, done: int, total: int) -> None:
                progress.update(task, description=f"{phase} the karma of {known.persona}", completed=done, total=total)

            return await explain(settings.database_url("owner"), configuration, known.persona, id, show)
