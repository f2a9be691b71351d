"""`soulforge reclaim` and `soulforge accept`: what a user asks of an anvil, published on the bus."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.connect import database, load_settings, make_message, publish
from deploy.cli.console import err, out, print_note
from deploy.cli.errors import UserError
from deploy.cli.format import duration, parse_duration, short_id

if TYPE_CHECKING:
    from datetime import datetime

    from rich.status import Status

    from services.orchestrator.views import AnvilStatus, Restoration
    from shared.config.settings import Settings
    from shared.storage.postgres import Pool

PANEL = "Rituals"
POLL_S = 0.5
Name = Annotated[str | None, typer.Argument(help="Default: the anvil on which training takes place.")]


def register(app: typer.Typer) -> None:
    for command in (reclaim, accept):
        app.command(rich_help_panel=PANEL)(command)


def reclaim(
    anvil: Name = None,
    for_: Annotated[str, typer.Option("--for", help="How long no ritual takes it again: 30s, 10m, 2h.")] = "10m",
    why: Annotated[str, typer.Option(help="Reason; kept with the ritual that it interrupts.")] = "",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait until inference is back.")] = False,
    timeout: Annotated[str, typer.Option(help="How long to wait; the reclaim stays in force after that.")] = "30m",
) -> None:
    """Take an anvil back for inference, now.

    The job on it saves a checkpoint and stops, inference returns, and the ritual continues from there later. A later reclaim
    replaces an earlier one: `--for 0s` ends it.
    """
    hold_s, timeout_s = parse_duration(for_), parse_duration(timeout)
    try:
        asyncio.run(_reclaim(load_settings(), anvil, hold_s, why, None if no_wait else timeout_s))
    except KeyboardInterrupt:
        print_note("the reclaim stays in force; see it: soulforge status")
        raise


async def _reclaim(settings: Settings, given: str | None, hold_s: float, why: str, timeout_s: float | None) -> None:
    """Publish the reclaim, print its effect, and wait for at most `timeout_s`; None does not wait."""
    from services.orchestrator.views import get_anvil_status
    from shared.contracts.evacuate import GpuReclaim

    name = find_anvil(settings, given)
    message = make_message(GpuReclaim, {"hold_s": "--for"}, anvil=name, hold_s=hold_s, why=why)
    async with database(settings) as pool:
        anvil = await get_anvil_status(pool, name)
        await publish(settings, message)
        for line in effect_of(anvil, hold_s):
            out.print(line, soft_wrap=True)
        fence = anvil.holder.fence if anvil.holder else anvil.open_fence
        if timeout_s is not None and fence:
            await wait_restored(pool, name, fence, anvil.now, timeout_s)


def effect_of(anvil: AnvilStatus, hold_s: float) -> list[str]:
    """What a reclaim interrupts, and until when no ritual takes the anvil."""
    if holder := anvil.holder:
        ritual = f"ritual {short_id(holder.ritual)} ({holder.persona})"
        first = f"{anvil.name} is reclaimed: {ritual} is interrupted at attempt {holder.attempt} and continues from its checkpoint later"
    elif anvil.open_fence:
        first = f"no ritual holds {anvil.name}; its inference is on the way back"
    else:
        first = f"no ritual holds {anvil.name}: its inference stays as it is"
    if not hold_s:
        return [first, "rituals may take it again now"]
    until = (anvil.now + timedelta(seconds=hold_s)).astimezone()
    return [first, f"no ritual takes it until {until:%Y-%m-%d %H:%M:%S} ({duration(hold_s)})"]


def accept(
    anvil: Name = None,
    why: Annotated[str, typer.Option(help="Reason; kept in the log.")] = "",
) -> None:
    """Accept a contained anvil as it serves now.

    For one that serves but answers differently than before a hand-over: rituals may take it again.
    """
    name = asyncio.run(_accept(load_settings(), anvil, why))
    out.print(f"accepted {name} as it serves now; see it: soulforge status")


async def _accept(settings: Settings, given: str | None, why: str) -> str:
    """Publish `gpu.accept`. Raises UserError where there is nothing to accept."""
    from services.orchestrator.views import get_anvil_status
    from shared.contracts.evacuate import GpuAccept

    name = find_anvil(settings, given)
    message = make_message(GpuAccept, {}, anvil=name, why=why)
    async with database(settings) as pool:
        containment = (await get_anvil_status(pool, name)).containment
    if containment is None:
        raise UserError(f"{name} is not contained: there is nothing to accept")
    if not containment.until_accepted:
        raise UserError(
            f"{name} is contained because it does not serve ({containment.reason}): that ends by itself when it serves "
            "again, and cannot be accepted; see `soulforge status`"
        )
    await publish(settings, message)
    return name


def find_anvil(settings: Settings, given: str | None) -> str:
    """The given anvil, or the one on which training takes place. Raises UserError where there is none of that name."""
    from deploy.services import load_configuration

    configuration = load_configuration(settings)
    if given is not None and given not in configuration.anvils:
        raise UserError(f"there is no anvil {given!r}; there are: {', '.join(configuration.anvils)}")
    return given or configuration.forge


async def wait_restored(pool: Pool, anvil: str, fence: int, since: datetime, timeout_s: float) -> None:
    """Wait until inference is back, and print so. Raises UserError when it is contained, or the time is up."""
    from services.orchestrator.views import get_restoration

    line = _StatusLine()
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                row = await get_restoration(pool, anvil, fence)
                if row and row.restored_at:
                    break
                if row and row.contained is not None:
                    why = f"{anvil} is contained ({row.contained})"
                    raise UserError(f"inference does not come back: {why}; see `soulforge status`")
                line.update(activity(row), ((row.now if row else since) - since).total_seconds())
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise UserError(
            f"inference is not back after {duration(timeout_s)}; the reclaim stays in force, see `soulforge status`"
        ) from None
    finally:
        line.stop()
    took, away = duration((row.restored_at - since).total_seconds()), duration(row.seconds_without_inference)
    out.print(f"inference on {anvil} is back after {took}; it was away for {away}", style="green")


def activity(row: Restoration | None) -> str:
    """What happens before inference is back."""
    from services.orchestrator.views import Step

    step = f" ({row.step} {row.part}".rstrip() + ")" if row and row.step else ""
    if row and row.released_at:
        return f"inference comes back{step}"
    # The reclaim came while it was evacuated, or while its job ran.
    evacuating = row and row.step not in (None, Step.TAKE_BACK)
    return f"the evacuation is given up{step}" if evacuating else "the job saves its checkpoint and ends"


class _StatusLine:
    """On a terminal one line that changes, elsewhere a line for every change."""

    def __init__(self) -> None:
        self._status: Status | None = None
        self._last = ""

    def update(self, text: str, for_s: float) -> None:
        if err.is_terminal:
            from rich.status import Status
            from rich.text import Text

            self._status = self._status or Status("", console=err)
            self._status.start()
            self._status.update(Text(f"{text}, {duration(for_s)}"))
        elif text != self._last:
            print_note(text)
        self._last = text

    def stop(self) -> None:
        if self._status:
            self._status.stop()
