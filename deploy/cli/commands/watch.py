"""`soulforge watch`: follow one ritual until it has ended and inference is back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.connect import database, settings
from deploy.cli.console import note, out
from deploy.cli.errors import Mistake
from deploy.cli.format import short

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

    house = settings()
    found = asyncio.run(_named(house, ritual))
    try:
        sight = asyncio.run(_watch(house, found, timeout))
    except KeyboardInterrupt:
        note(f"the ritual goes on by itself; watch it again: soulforge watch {short(found)}")
        raise
    if sight is None:
        raise Mistake(
            f"ritual {short(found)} is still under way after {timeout:.0f} s; watch it again: soulforge watch {short(found)}"
        )
    raise typer.Exit(_conclude(house, sight))


async def _named(house: Settings, given: str | None) -> UUID:
    from deploy.cli.queries.rituals import find_ritual

    async with database(house) as pool:
        return await find_ritual(pool, given)


async def _watch(house: Settings, ritual: UUID, timeout_s: float | None) -> Sight | None:
    """The last look at the ritual, or None when the time was up before it was over."""
    import asyncio
    from contextlib import suppress

    from deploy.cli.follow import follow
    from deploy.cli.sight import Progress
    from deploy.cli.views.shows import Lines, Picture

    progress = Progress(ritual)
    listening = asyncio.create_task(progress.listen(house))
    try:
        with suppress(TimeoutError), Picture(out) if out.is_terminal else Lines(out) as show:
            async with asyncio.timeout(timeout_s):
                return await follow(house, ritual, progress, show)
        return None
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


def _conclude(house: Settings, sight: Sight) -> int:
    """Print the verdict and the end, and return the exit code."""
    from deploy.cli.views.ending import ending
    from shared.contracts.ritual import State

    out.print(ending(sight, house.phoenix_url))
    return 0 if sight.ritual["state"] == State.AWAKENED else 1
