"""`soulforge watch`: follow one ritual until it has ended and inference is back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.connect import database, load_settings
from deploy.cli.console import out, print_note
from deploy.cli.errors import UserError
from deploy.cli.format import short_id

if TYPE_CHECKING:
    from uuid import UUID

    from deploy.cli.sight import Sight
    from shared.settings import Settings

PANEL = "Rituals"


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(watch)


def watch(
    ritual: Annotated[
        str | None, typer.Argument(help="The ritual, by the first digits of its id. Default: the newest.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Give up after so many seconds; the ritual goes on.")
    ] = None,
) -> None:
    """Follow a ritual until it has ended and inference is back.

    Exit code 0 only when its adapter serves. On a terminal it is a live picture, elsewhere one line for each transition.
    """
    import asyncio

    settings = load_settings()
    found = asyncio.run(_named(settings, ritual))
    try:
        sight = asyncio.run(_watch(settings, found, timeout))
    except KeyboardInterrupt:
        print_note(f"the ritual goes on by itself; watch it again: soulforge watch {short_id(found)}")
        raise
    if sight is None:
        raise UserError(
            f"ritual {short_id(found)} is still under way after {timeout:.0f} s; watch it again: soulforge watch {short_id(found)}"
        )
    raise typer.Exit(_conclude(settings, sight))


async def _named(settings: Settings, given: str | None) -> UUID:
    from deploy.cli.queries.rituals import find_ritual

    async with database(settings) as pool:
        return await find_ritual(pool, given)


async def _watch(settings: Settings, ritual: UUID, timeout_s: float | None) -> Sight | None:
    """The last look at the ritual, or None when the time was up before it was over."""
    import asyncio
    from contextlib import suppress

    from deploy.cli.follow import follow
    from deploy.cli.sight import Progress
    from deploy.cli.views.shows import Lines, Picture

    progress = Progress(ritual)
    listening = asyncio.create_task(progress.listen(settings))
    try:
        with suppress(TimeoutError), Picture(out) if out.is_terminal else Lines(out) as show:
            async with asyncio.timeout(timeout_s):
                return await follow(settings, ritual, progress, show)
        return None
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


def _conclude(settings: Settings, sight: Sight) -> int:
    """Print the verdict and the end, and return the exit code."""
    from deploy.cli.views.ending import ending
    from shared.contracts.ritual import State

    out.print(ending(sight, settings.phoenix_url))
    return 0 if sight.ritual["state"] == State.AWAKENED else 1
