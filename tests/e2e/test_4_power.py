"""What a power cut or a careless kill leaves behind, and what `up` and `down` make of it."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.e2e.running import Stack, eventually, left_running

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]


async def test_after_kill_9_of_the_supervisor_the_next_up_cleans_up_and_serves(stack: Stack) -> None:
    supervisor = json.loads((stack.home / "supervisor" / "supervisor.json").read_text())["pid"]
    os.kill(supervisor, signal.SIGKILL)
    assert left_running(stack.home), "the parts outlive their supervisor"

    started = stack.run("up", "--detach")

    assert started.returncode == 0, started.stderr
    assert "ended what a killed supervisor left running" in started.stdout + started.stderr
    answer = stack.run("ask", "scribe", "Note about the gate: it squeaks; the post is loose.")
    assert answer.stdout.startswith("Note | "), answer.stderr


async def test_down_after_kill_9_of_the_supervisor_leaves_nothing_running(stack: Stack) -> None:
    supervisor = json.loads((stack.home / "supervisor" / "supervisor.json").read_text())["pid"]
    os.kill(supervisor, signal.SIGKILL)

    stack.down()

    async def nothing() -> bool:
        return not left_running(stack.home)

    await eventually(nothing, 20, f"nothing of {stack.home} runs")


def test_commands_without_a_stack_say_so_in_one_line(stack: Stack) -> None:
    for words in (("rituals",), ("intend", "scribe"), ("ask", "scribe", "hello"), ("karma", "stats")):
        said = stack.run(*words, timeout_s=60)

        assert said.returncode != 0
        assert "soulforge up" in said.stderr
        assert "Traceback" not in said.stderr
        assert len(said.stderr.strip().splitlines()) == 1, said.stderr
