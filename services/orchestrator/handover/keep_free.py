"""Keep a held anvil free: its queues stay held, and a rune that runs beside the GPU work is stopped.

One that comes back each time, or that Soulforge did not start and cannot stop, ends the attempt with what is known of it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil
import structlog

from services.orchestrator import store
from services.orchestrator.anvil import TAKEN
from services.orchestrator.engine import Condition
from shared.drivers.containers.port import ContainerError
from shared.drivers.inference.http import UNIX
from shared.processes.identity import PROC

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.orchestrator.anvil import Anvil
    from services.orchestrator.engine import Rune
    from shared.ritual.lease import Lease

log = structlog.get_logger()
RUNS = (Condition.STARTING, Condition.STUCK, Condition.SERVING)
MOST = 3  # checks of one hand-over that may find a rune running


async def keep_free(anvil: Anvil, held: Lease) -> str | None:
    """Hold queues and gates again where a hold was lost, and stop runes. Returns why the anvil cannot be kept free, or None."""
    await anvil.close_again(held.fence)
    for queue in anvil.queues.values():
        await queue.hold(anvil.holder(held.fence), TAKEN)
    for rune in anvil.runes if not anvil.sleeps else ():
        ours = await rune.condition() in RUNS
        if (ours or await rune.inference.healthy()) and (reason := await _stop(anvil, held, rune, ours)):
            return reason
    return None


async def _stop(anvil: Anvil, held: Lease, rune: Rune, ours: bool) -> str | None:
    """Count that a rune was found running, and stop one that is `ours`. Returns the reason after too many.

    Until then it raises ContainerError when the rune cannot be stopped.
    """
    context = anvil.context
    listener = await asyncio.to_thread(describe_listener, context.configuration.rune_url(context.settings, rune.name))
    log.error("rune runs while the anvil is held", anvil=anvil.name, rune=rune.name, ours=ours, listener=listener)
    # Counted first: one that cannot be stopped must end the attempt too.
    count = await store.record_found_running(context.pool, anvil.name, held.fence)
    what = f"in its container {rune.container}" if ours else "as an engine that Soulforge did not start"
    reason = (
        f"rune {rune.name} was found running {count} times while the anvil was held, {what} ({listener}): disable what "
        "starts it, such as a systemd unit with Restart=always or a restart policy of the container engine"
    )
    try:
        if ours:
            await rune.stop()
    except ContainerError as error:
        if count < MOST:
            raise
        return f"{reason}; it cannot be stopped: {error}"
    return reason if count >= MOST else None


def describe_listener(url: str) -> str:
    """The address, with the process that listens there and its systemd unit, as far as this user may know. Blocks."""
    pid = next(filter(None, _list_listeners(url)), None)
    if pid is None:
        return url
    unit = _unit_of(str(pid))
    known = unit and unit != _unit_of("self")  # else it is a child of this service
    return f"{url}, pid {pid}" + (f", systemd unit {unit}" if known else "")


def _list_listeners(url: str) -> Iterator[int | None]:
    """The processes that listen at an address; None for one that this user may not know."""
    if url.startswith(UNIX):
        path = url.removeprefix(UNIX)
        yield from (each.pid for each in psutil.net_connections("unix") if str(each.laddr) == path)
        return
    port = urlsplit(url).port
    for each in psutil.net_connections("tcp"):
        if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port:
            yield each.pid


def _unit_of(pid: str) -> str | None:
    try:
        return unit_in((PROC / pid / "cgroup").read_text())
    except OSError:
        return None


def unit_in(cgroup: str) -> str | None:
    """The innermost service in the text of /proc/<pid>/cgroup, but for the one that a user's session is."""
    units = [part for part in cgroup.strip().split("/") if part.endswith(".service") and not part.startswith("user@")]
    return units[-1] if units else None
