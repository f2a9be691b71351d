"""What a power cut or a careless kill leaves behind, and what `up` and `down` make of it."""

from __future__ import annotations

import os
import shutil
import signal
from uuid import UUID

import pytest

from deploy.ritual import publish
from shared.contracts.ritual import State
from tests.support.following import holding, is_in
from tests.support.rehearsal import assert_persona_serves
from tests.support.running import Stack, eventually, left_running

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]


async def test_phoenix_keeps_its_tables_in_schema_traces_of_our_database(rehearsed: Stack) -> None:
    conn = await rehearsed.connect()
    tables = await conn.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'traces'")
    await conn.close()

    assert tables > 30


def test_a_second_up_on_the_same_home_is_refused(rehearsed: Stack) -> None:
    second = rehearsed.run("up", timeout_s=60)

    assert second.returncode != 0
    assert "supervised by pid" in second.stderr + second.stdout
    assert "Traceback" not in second.stderr


def kill_supervisor(stack: Stack) -> None:
    os.kill(stack.supervisor().supervisor.pid, signal.SIGKILL)


async def test_a_ritual_outlives_kill_9_of_the_supervisor_and_the_loss_of_all_of_jetstream(rehearsed: Stack) -> None:
    """Streams, consumers and messages are gone in the middle; PostgreSQL alone knows, and that is enough."""
    async with holding(rehearsed, State.EVACUATED):
        answer = await publish(rehearsed.settings, {"persona": "scribe", "seed": 99})
        ritual = UUID(answer["ritual"])
        await eventually(lambda: is_in(rehearsed, ritual, State.EVACUATED), 120, f"{ritual} evacuated")
        kill_supervisor(rehearsed)
        assert left_running(rehearsed.home), "the parts outlive their supervisor"
        shutil.rmtree(rehearsed.home / "nats" / "jetstream")
        said = await rehearsed.up_with_short_jobs()

    assert "ended what a killed supervisor left running" in said
    assert f"ritual {ritual} continues" in said
    await eventually(lambda: is_in(rehearsed, ritual, State.AWAKENED), 240, f"{ritual} awakened")
    await assert_persona_serves(rehearsed)


async def test_down_after_kill_9_of_the_supervisor_leaves_nothing_running(rehearsed: Stack) -> None:
    kill_supervisor(rehearsed)

    rehearsed.down()

    async def nothing() -> bool:
        return not left_running(rehearsed.home)

    await eventually(nothing, 20, f"nothing of {rehearsed.home} runs")


def test_commands_without_a_stack_say_so_in_one_line(rehearsal_stack: Stack) -> None:
    if rehearsal_stack.is_up():
        rehearsal_stack.down()

    for words in (("rituals",), ("intend", "scribe"), ("ask", "scribe", "hello"), ("karma", "stats")):
        said = rehearsal_stack.run(*words, timeout_s=60)

        assert said.returncode != 0
        assert "soulforge up" in said.stderr
        assert "Traceback" not in said.stderr
        assert len(said.stderr.strip().splitlines()) == 1, said.stderr
