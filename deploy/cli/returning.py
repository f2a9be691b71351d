"""Wait until inference is back after a hand-over, and tell on the way what goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from rich.status import Status

from deploy.cli.console import err, note, out
from deploy.cli.errors import Mistake
from deploy.cli.format import duration
from deploy.cli.queries.anvils import get_restoration

if TYPE_CHECKING:
    from datetime import datetime

    from shared.postgres import Pool

LOOK_EVERY_S = 0.5


async def wait_until_back(pool: Pool, anvil: str, fence: int, since: datetime, timeout_s: float) -> None:
    """Return once inference is back and that was said. Raises Mistake when it is contained, or the time is up."""
    shown = _Shown()
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                row = await get_restoration(pool, anvil, fence)
                if row and row["restored_at"]:
                    break
                if row and row["contained"] is not None:
                    raise Mistake(
                        f"inference does not come back: {anvil} is contained ({row['contained']}); see `soulforge status`"
                    )
                shown.update(doing(row), ((row["now"] if row else since) - since).total_seconds())
                await asyncio.sleep(LOOK_EVERY_S)
    except TimeoutError:
        raise Mistake(
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
            self._status = self._status or Status("", console=err)
            self._status.start()
            self._status.update(f"{text}, {duration(for_s)}")
        elif text != self._last:
            note(text)
        self._last = text

    def end(self) -> None:
        if self._status:
            self._status.stop()
