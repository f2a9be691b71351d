"""`soulforge cancel`, `pause` and `resume`: commands to a ritual under way, published on the bus."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.connect import database, load_settings, make_message, publish
from deploy.cli.console import out
from deploy.cli.errors import UserError
from deploy.cli.format import short_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from shared.config.settings import Settings
    from shared.contracts.intent import RitualCancel, RitualPause, RitualResume
    from shared.ritual.views import RitualStatus

PANEL = "Rituals"
Given = Annotated[str, typer.Argument(metavar="RITUAL", help="The ritual, by the first digits of its id.")]
Why = Annotated[str, typer.Option(help="Reason; kept with the ritual.")]


def register(app: typer.Typer) -> None:
    for command in (cancel, pause, resume):
        app.command(rich_help_panel=PANEL)(command)


def cancel(ritual: Given, why: Why = "") -> None:
    """End a ritual early.

    It stops at its next safe point, what it made is kept, and inference comes back.
    """
    from shared.contracts.intent import RitualCancel

    found = asyncio.run(_send(load_settings(), RitualCancel, ritual, why, objection_to_cancel))
    out.print(f"asked ritual {short_id(found)} to end; watch it: soulforge watch {short_id(found)}")


def pause(ritual: Given, why: Why = "") -> None:
    """Keep a ritual from the anvil until it is resumed.

    Its job saves a checkpoint and stops, inference comes back, and other rituals may take the anvil.
    """
    from shared.contracts.intent import RitualPause

    found = asyncio.run(_send(load_settings(), RitualPause, ritual, why, objection_to_pause))
    out.print(f"asked ritual {short_id(found)} to pause; let it go on: soulforge resume {short_id(found)}")


def resume(ritual: Given, why: Annotated[str, typer.Option(help="Reason; kept in the log.")] = "") -> None:
    """Let a paused ritual wait for the anvil again.

    It continues from its checkpoint.
    """
    from shared.contracts.intent import RitualResume

    found = asyncio.run(_send(load_settings(), RitualResume, ritual, why, objection_to_resume))
    out.print(f"asked ritual {short_id(found)} to go on; watch it: soulforge watch {short_id(found)}")


async def _send(
    settings: Settings,
    kind: type[RitualCancel | RitualPause | RitualResume],
    given: str,
    why: str,
    objection: Callable[[RitualStatus], str | None],
) -> UUID:
    """Publish a command to the ritual that `given` means. Raises UserError where it would change nothing."""
    from deploy.cli.queries.rituals import find_ritual
    from shared.ritual.views import get_ritual

    async with database(settings) as pool:
        ritual = await find_ritual(pool, given)
        row = await get_ritual(pool, ritual)
    if problem := objection(row) if row else "is gone":
        raise UserError(f"ritual {short_id(ritual)} {problem}")
    await publish(settings, make_message(kind, {}, ritual=ritual, why=why))
    return ritual


def objection_to_cancel(ritual: RitualStatus) -> str | None:
    """Why there is nothing to cancel; None where there is."""
    if ritual.ended_at:
        return f"is {ritual.state} already: there is nothing to cancel"
    return "was asked to end already; it stops at its next safe point" if ritual.cancel_requested_at else None


def objection_to_pause(ritual: RitualStatus) -> str | None:
    """Why there is nothing to pause; None where there is."""
    from shared.contracts.ritual import NEEDS_ANVIL

    if ritual.ended_at:
        return f"is {ritual.state} already: there is nothing to pause"
    if ritual.cancel_requested_at:
        return "was asked to end: there is nothing to pause"
    if ritual.state not in NEEDS_ANVIL:
        return f"is {ritual.state}: it needs the anvil no more, so there is nothing to pause"
    return f"is paused already: soulforge resume {short_id(ritual.id)} lets it go on" if ritual.paused else None


def objection_to_resume(ritual: RitualStatus) -> str | None:
    """Why there is nothing to resume; None where there is."""
    if ritual.ended_at:
        return f"is {ritual.state} already: there is nothing to resume"
    return None if ritual.paused else "is not paused: there is nothing to resume"
