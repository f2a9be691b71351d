"""`soulforge reclaim` and `soulforge accept`: what a person says on the bus about an anvil."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.connect import database, load_settings, make_message, publish
from deploy.cli.console import err, out, print_note
from deploy.cli.errors import UserError
from deploy.cli.format import duration, parse_duration, short_id
from deploy.cli.queries.anvils import get_anvil, get_restoration

if TYPE_CHECKING:
    from datetime import datetime

    from rich.status import Status

    from shared.postgres import Pool
    from shared.settings import Settings

PANEL = "Rituals"
LOOK_EVERY_S = 0.5
Anvil = Annotated[str | None, typer.Argument(help="Default: the anvil on which training takes place.")]


def register(app: typer.Typer) -> None:
    for command in (reclaim, accept):
        app.command(rich_help_panel=PANEL)(command)


def reclaim(
    anvil: Anvil = None,
    for_: Annotated[str, typer.Option("--for", help="How long no ritual takes it again: 30s, 10m, 2h.")] = "10m",
    why: Annotated[str, typer.Option(help="Why; kept with the ritual that it interrupts.")] = "",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait until inference is back.")] = False,
    timeout: Annotated[str, typer.Option(help="How long to wait; the demand stands after that.")] = "30m",
) -> None:
    """Want an anvil back for inference, now.

    The job on it saves a checkpoint and stops, inference returns, and the ritual goes on from there later.
    """
    hold_s, timeout_s = parse_duration(for_), parse_duration(timeout)
    try:
        asyncio.run(_reclaim(load_settings(), anvil, hold_s, why, None if no_wait else timeout_s))
    except KeyboardInterrupt:
        print_note("what was said on the bus stands; see it: soulforge status")
        raise


async def _reclaim(settings: Settings, anvil: str | None, hold_s: float, why: str, timeout_s: float | None) -> None:
    """Say it, tell what it does, and wait for as long as `timeout_s`; None does not wait."""
    from shared.contracts.evacuate import GpuReclaim

    name = anvil_named(settings, anvil)
    command = make_message(GpuReclaim, {"hold_s": "--for"}, anvil=name, hold_s=hold_s, why=why)
    async with database(settings) as pool:
        row = await get_anvil(pool, name)
        await publish(settings, command)
        for line in demanded(name, row, hold_s):
            out.print(line, markup=False, soft_wrap=True)
        if timeout_s is not None and (fence := row["fence"] or row["open_fence"]):
            await wait_until_back(pool, name, fence, row["now"], timeout_s)


def demanded(name: str, row: dict[str, Any], hold_s: float) -> list[str]:
    """What the demand interrupts, and until when no ritual takes the anvil. `row` is of queries.anvils.get_anvil."""
    if row["ritual"]:
        who = f"ritual {short_id(row['ritual'])} ({row['persona']})"
        first = f"{name} is wanted back: {who} is interrupted at attempt {row['attempt']} and goes on from its checkpoint later"
    elif row["open_fence"]:
        first = f"nothing holds {name}; its inference is on the way back"
    else:
        first = f"nothing holds {name}: its inference stays as it is"
    until = max(filter(None, (row["reclaimed_until"], row["now"] + timedelta(seconds=hold_s))))
    left = duration((until - row["now"]).total_seconds())
    return [first, f"no ritual takes it until {until.astimezone():%Y-%m-%d %H:%M:%S} ({left})"]


def accept(
    anvil: Anvil = None,
    why: Annotated[str, typer.Option(help="Why that is well; kept in the log.")] = "",
) -> None:
    """Say that a contained anvil is well as it is.

    For one that serves but answers otherwise than before a hand-over: rituals may take it again.
    """
    name = asyncio.run(_accept(load_settings(), anvil, why))
    out.print(f"said that {name} is well as it is; see it: soulforge status")


async def _accept(settings: Settings, anvil: str | None, why: str) -> str:
    """Publish `gpu.accept`. Raises UserError where there is nothing to accept."""
    from shared.contracts.evacuate import GpuAccept

    name = anvil_named(settings, anvil)
    command = make_message(GpuAccept, {}, anvil=name, why=why)
    async with database(settings) as pool:
        row = await get_anvil(pool, name)
    if row["contained"] is None:
        raise UserError(f"{name} is not contained: there is nothing to accept")
    if not row["until_accepted"]:
        raise UserError(
            f"{name} is contained because it does not serve ({row['contained']}): that ends by itself when it serves "
            "again, and cannot be accepted; see `soulforge status`"
        )
    await publish(settings, command)
    return name


def anvil_named(settings: Settings, given: str | None) -> str:
    """The anvil a person means; without a word of theirs the one on which training takes place."""
    from shared.configuration.file import load

    configuration = load(settings)
    if given is not None and given not in configuration.anvils:
        raise UserError(f"there is no anvil {given!r}; there are: {', '.join(configuration.anvils)}")
    return given or configuration.forge


async def wait_until_back(pool: Pool, anvil: str, fence: int, since: datetime, timeout_s: float) -> None:
    """Return once inference is back and that was said. Raises UserError when it is contained, or the time is up."""
    shown = _Shown()
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                row = await get_restoration(pool, anvil, fence)
                if row and row["restored_at"]:
                    break
                if row and row["contained"] is not None:
                    raise UserError(
                        f"inference does not come back: {anvil} is contained ({row['contained']}); see `soulforge status`"
                    )
                shown.update(doing(row), ((row["now"] if row else since) - since).total_seconds())
                await asyncio.sleep(LOOK_EVERY_S)
    except TimeoutError:
        raise UserError(
            f"inference is not back after {duration(timeout_s)}; the demand stands, see `soulforge status`"
        ) from None
    finally:
        shown.end()
    out.print(back(anvil, row, since), style="green")


def doing(row: dict[str, Any] | None) -> str:
    """What goes on now, in words; `row` is of queries.anvils.get_restoration."""
    step = f" ({row['step']} {row['part']}".rstrip() + ")" if row and row["step"] else ""
    if row and row["released_at"]:
        return f"inference comes back{step}"
    # Its evacuation went on when the anvil was wanted back, or its job does.
    evacuating = row and row["step"] not in (None, "take-back")
    return f"the evacuation is given up{step}" if evacuating else "the job saves its checkpoint and ends"


def back(anvil: str, row: dict[str, Any], since: datetime) -> str:
    """How long it took from the demand on, and how long inference was away."""
    took = (row["restored_at"] - since).total_seconds()
    return f"inference on {anvil} is back after {duration(took)}; it was away for {duration(row['seconds_without_inference'])}"


class _Shown:
    """On a terminal one line that changes, elsewhere a line for every change."""

    def __init__(self) -> None:
        self._status: Status | None = None
        self._last = ""

    def update(self, text: str, for_s: float) -> None:
        if err.is_terminal:
            from rich.status import Status

            self._status = self._status or Status("", console=err)
            self._status.start()
            self._status.update(f"{text}, {duration(for_s)}")
        elif text != self._last:
            print_note(text)
        self._last = text

    def end(self) -> None:
        if self._status:
            self._status.stop()
