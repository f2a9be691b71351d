"""What is true of a container now, from its files and the kernel: its members, and whether it has ended."""

from __future__ import annotations

import time

from shared.drivers.containers.port import ContainerInfo, ContainerState
from shared.drivers.containers.state import Child, Exit, Placed, State
from shared.processes.identity import alive, boot_id
from shared.processes.tree import Family, below_init, descendants, survivors

# Longer than any shim takes from its start to its lock.
UNBORN_S = 30.0
LOST = "lost"


def members(state: State, placed: Placed) -> Family:
    """Every living process of the container but its shim. Blocks for milliseconds."""
    shim, child = state.shim(), state.child()
    if shim and alive(shim):
        # All of it: the shim is the reaper of whatever is orphaned below it.
        return descendants(shim)
    known = (*state.tree().members, *((child.identity,) if child else ()))
    return survivors(placed.mark, child.identity if child else None, known)


def payload(family: Family, child: Child | None) -> Family:
    """The members that were asked for, without those that hold a PID namespace together."""
    return below_init(family, child.identity.pid) if child and "pid" in child.isolation else family


def ended(state: State, placed: Placed) -> Exit | None:
    """How the container ended; None while it runs or may yet begin. Settles one whose shim is gone."""
    if found := state.exit():
        return found
    shim = state.shim()
    if shim is None:
        unborn = time.time() - placed.placed_at > UNBORN_S
        return settle(state) if unborn else None
    if alive(shim):
        return None
    if shim.boot_id == boot_id() and members(state, placed):
        return None
    return settle(state)


def settle(state: State) -> Exit | None:
    """Write the end that nobody else can write any more; None while a shim holds the container."""
    with state.lock() as alone:
        if not alone:
            return None
        # The shim may have written its own between the look and the lock.
        found = state.exit()
        if found is None:
            found = Exit(exit_code=None, limit=LOST, finished_at=time.time())
            state.finish(found)
        return found


def describe(state: State, placed: Placed) -> ContainerInfo:
    child, end = state.child(), ended(state, placed)
    return ContainerInfo(
        name=placed.spec.name,
        state=ContainerState.EXITED if end else ContainerState.RUNNING,
        labels=placed.spec.labels,
        started_at=child.started_at if child else placed.placed_at,
        finished_at=end.finished_at if end else None,
        exit_code=end.exit_code if end else None,
        limit=end.limit if end else None,
        isolation=child.isolation if child else (),
    )
