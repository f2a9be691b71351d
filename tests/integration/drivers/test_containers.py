"""What every container driver must do. A driver is added as a parameter of `open_driver`, not as another suite."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from shared.drivers.containers.port import ContainerError, Containers, ContainerState
from tests.support.containers import Open, containers, open_driver, work
from tests.support.payloads import FOREVER, MEBIBYTE, Work, announce, ended, fleeing, result

__all__ = ["containers", "open_driver", "work"]  # the fixtures

pytestmark = pytest.mark.asyncio


async def test_a_container_runs_and_its_exit_code_is_kept(containers: Containers, work: Work) -> None:
    info = await containers.start(work.spec("import time; time.sleep(1); raise SystemExit(7)"))
    assert info.state is ContainerState.RUNNING
    assert {"process-group", "environment"} <= set(info.isolation)
    end = await ended(containers)
    assert (end.exit_code, end.limit) == (7, None)
    assert end.finished_at is not None
    assert end.finished_at > end.started_at


async def test_an_unknown_name_is_nothing_and_harmless(containers: Containers) -> None:
    assert await containers.inspect("unknown") is None
    await containers.stop("unknown", 1)
    await containers.kill("unknown")
    await containers.remove("unknown")
    assert await containers.logs("unknown") == ""
    assert await containers.memory_bytes("unknown") == 0


async def test_a_name_that_leaves_the_directory_is_refused(containers: Containers, work: Work) -> None:
    with pytest.raises(ContainerError, match="name"):
        await containers.start(work.spec(FOREVER, name="../outside"))


@pytest.mark.parametrize("time_limit_s", [None, 60])
async def test_a_command_that_cannot_run_is_an_error_and_leaves_nothing(
    containers: Containers, work: Work, time_limit_s: float | None
) -> None:
    spec = work.spec("", time_limit_s=time_limit_s).model_copy(update={"command": ("/nowhere/at/all",)})
    with pytest.raises(ContainerError, match="/nowhere/at/all"):
        await containers.start(spec)
    assert await containers.inspect("payload") is None


async def test_the_same_name_runs_once(containers: Containers, work: Work) -> None:
    code = "open('runs', 'a').write('x'); import time; time.sleep(0.5)"
    first, second = await asyncio.gather(containers.start(work.spec(code)), containers.start(work.spec(code)))
    assert first.started_at == second.started_at
    await ended(containers)
    assert (await containers.start(work.spec(code))).state is ContainerState.EXITED
    assert await work.written("runs") == "x"


@pytest.mark.parametrize("isolated", [False, True])
async def test_stop_lets_a_payload_finish_within_its_grace(containers: Containers, work: Work, isolated: bool) -> None:
    handler = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: (print('checkpoint'), sys.exit(5))); "
    await containers.start(work.spec(handler + announce("ready"), isolated=isolated))
    await work.written("ready")
    await containers.stop("payload", grace_s=10)
    info = await ended(containers)
    assert (info.exit_code, await containers.logs("payload")) == (5, "checkpoint\n")


async def test_stop_kills_a_payload_that_ignores_it(containers: Containers, work: Work) -> None:
    await containers.start(
        work.spec("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + announce("ready"))
    )
    await work.written("ready")
    started = time.monotonic()
    await containers.stop("payload", grace_s=0.5)
    assert 0.5 <= time.monotonic() - started < 30
    assert (await ended(containers)).exit_code == -signal.SIGKILL
    assert not work.lives("ready")


@pytest.mark.parametrize("isolated", [False, True])
async def test_sigterm_ends_a_payload_that_does_not_handle_it(
    containers: Containers, work: Work, isolated: bool
) -> None:
    await containers.start(work.spec(announce("ready"), isolated=isolated))
    await work.written("ready")
    await containers.stop("payload", grace_s=10)
    assert (await ended(containers)).exit_code == -signal.SIGTERM


async def test_a_grandchild_that_fled_its_session_does_not_outlive_stop(containers: Containers, work: Work) -> None:
    await containers.start(work.spec(fleeing(FOREVER)))
    await work.written("fled")
    assert work.lives("fled")
    await containers.stop("payload", grace_s=5)
    assert not work.lives("fled")


async def test_a_grandchild_does_not_outlive_a_payload_that_ends_by_itself(containers: Containers, work: Work) -> None:
    await containers.start(work.spec(fleeing("while not os.path.exists('fled'): pass")))
    await work.written("fled")
    await ended(containers)
    assert not work.lives("fled")


async def test_containers_are_listed_by_all_their_labels_oldest_first(containers: Containers, work: Work) -> None:
    for name, role in (("b", "trainer"), ("a", "trainer"), ("c", "rune")):
        await containers.start(work.spec("", name=name, labels={"role": role, "anvil": "anvil0"}))
    assert [info.name for info in await containers.list({"anvil": "anvil0", "role": "trainer"})] == ["b", "a"]
    assert len(await containers.list({})) == 3
    assert await containers.list({"role": "trainer", "anvil": "other"}) == []


async def test_logs_are_the_last_lines_of_both_streams(containers: Containers, work: Work) -> None:
    # An engine reads two pipes: what is written at once to both may change places.
    line = "print(n, file=sys.stderr if n % 2 else sys.stdout, flush=True), time.sleep(0.1)"
    code = f"import sys, time; [({line}) for n in range(10)]"
    await result(containers, work.spec(code))
    assert await containers.logs("payload", tail=3) == "7\n8\n9\n"


@pytest.mark.parametrize("isolated", [False, True])
async def test_memory_is_that_of_the_payload(containers: Containers, work: Work, isolated: bool) -> None:
    grow = f"import os; held = bytearray(); os.wait() if os.fork() else (held.extend(b'x' * {150 * MEBIBYTE}), "
    await containers.start(work.spec(grow + f"exec({announce('grown')!r}))", isolated=isolated))
    await work.written("grown")
    assert 150 * MEBIBYTE < await containers.memory_bytes("payload") < 200 * MEBIBYTE
    await containers.kill("payload")
    assert await containers.memory_bytes("payload") == 0


async def test_too_much_memory_ends_a_container(containers: Containers, work: Work) -> None:
    code = f"held = b'x' * {200 * MEBIBYTE}; {FOREVER}"
    await containers.start(work.spec(code, memory_bytes=100 * MEBIBYTE))
    info = await ended(containers)
    assert (info.limit, info.exit_code) == ("memory", -signal.SIGKILL)


async def test_too_much_time_ends_a_container(containers: Containers, work: Work) -> None:
    await containers.start(work.spec(FOREVER, time_limit_s=0.5))
    info = await ended(containers)
    assert (info.limit, info.exit_code) == ("time", -signal.SIGKILL)


async def test_a_new_driver_takes_over_what_an_earlier_one_started(
    containers: Containers, open_driver: Open, work: Work
) -> None:
    await containers.start(work.spec(announce("ready"), labels={"role": "trainer"}))
    await work.written("ready")
    heir = open_driver()
    [info] = await heir.list({"role": "trainer"})
    assert info.state is ContainerState.RUNNING
    await heir.stop(info.name, grace_s=5)
    assert not work.lives("ready")
    end = await containers.inspect("payload")
    assert end is not None
    assert end.exit_code == -signal.SIGTERM


async def test_only_an_exited_container_is_removed(containers: Containers, work: Work) -> None:
    await containers.start(work.spec(FOREVER))
    with pytest.raises(ContainerError, match="stop it"):
        await containers.remove("payload")
    await containers.kill("payload")
    await containers.remove("payload")
    assert await containers.inspect("payload") is None


async def test_an_exited_container_is_revived_as_it_was_specified(containers: Containers, work: Work) -> None:
    code = "open('runs', 'a').write('x'); raise SystemExit(len(open('runs').read()))"
    await containers.start(work.spec(code, labels={"role": "rune"}))
    first = await ended(containers)
    await containers.revive("payload")
    second = await ended(containers)
    assert (first.exit_code, second.exit_code, second.labels) == (1, 2, {"role": "rune"})
    assert second.started_at > first.started_at


async def test_revive_leaves_a_running_container_alone(containers: Containers, work: Work) -> None:
    started = await containers.start(work.spec(FOREVER))
    assert await containers.revive("payload") == started


async def test_only_a_known_container_is_revived(containers: Containers) -> None:
    with pytest.raises(ContainerError, match="unknown"):
        await containers.revive("payload")


async def test_a_revived_container_is_stopped_like_any_other(containers: Containers, work: Work) -> None:
    await containers.start(work.spec(announce("ready")))
    await containers.kill("payload")
    (work.directory / "ready").unlink(missing_ok=True)
    await containers.revive("payload")
    await work.written("ready")
    await containers.stop("payload", grace_s=10)
    assert not work.lives("ready")
    assert (await ended(containers)).exit_code == -signal.SIGTERM


async def test_a_time_limit_does_not_hinder_a_stop_with_grace(containers: Containers, work: Work) -> None:
    handler = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); "
    await containers.start(work.spec(handler + announce("ready"), isolated=True, time_limit_s=600))
    await work.written("ready")
    await containers.stop("payload", grace_s=10)
    end = await ended(containers)
    assert (end.exit_code, end.limit) == (5, None)


async def test_a_name_may_bear_an_address(containers: Containers, work: Work) -> None:
    await containers.start(work.spec("", name="persona@1a2b"))
    assert (await ended(containers, "persona@1a2b")).name == "persona@1a2b"
