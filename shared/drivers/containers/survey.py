"""What is true of a container now, from its files and the kernel: its members, and whether it has ended."""

from __future__ import annotations

import time

from shared.drivers.containers.port import ContainerInfo, ContainerState
from shared.drivers.containers.state import Child, Exit, Placed, State
from shared.processes.identity import alive, boot_id, stat
from shared.processes.tree import Processes, ProcessTree, descendants

# Longer than any shim takes from its start to its lock.
UNBORN_S = 30.0
LOST = "lost"


def members(state: State, placed: Placed) -> Processes:
    """Every living process of the container but its shim. Blocks for milliseconds."""
    shim, child = state.shim(), state.child()
    if shim and alive(shim):
        # All of it: the shim is the reaper of whatever is orphaned below it.
        return descendants(shim)
    return ProcessTree(
        token=placed.token, leader=child.identity if child else None, members=state.tree().members
    ).processes()


def payload(family: Processes, child: Child | None) -> Processes:
    """The members that were asked for, without those that hold a PID namespace together."""
    if child is None or "pid" not in child.isolation:
        return family
    first = child.identity.pid
    return {member for member in family if member.pid != first and (seen := stat(member.pid)) and seen.parent != first}


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
