"""Two stacks for the end-to-end tests of a session: one with real jobs, one with short ones. Each test asks for what it needs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from uuid import UUID

import pytest

from deploy.ritual import publish
from shared.contracts.ritual import State
from tests.support import rehearsal
from tests.support.fakes.holding import REHEARSAL
from tests.support.following import is_in
from tests.support.planted import Planted
from tests.support.running import Ritual, Stack, eventually, stack_of_its_own


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A stack whose jobs are the real ones; the first ritual puts it up."""
    with stack_of_its_own() as one:
        yield one


@pytest.fixture(scope="session")
def scribe(stack: Stack) -> Ritual:
    """The scribe's ritual, run once; its persona serves."""
    return _run(stack, "scribe")


@pytest.fixture(scope="session")
def planted(stack: Stack, scribe: Ritual, tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """Secrets and personal data in the coder's karma."""
    karma = Planted(20261121)
    file = tmp_path_factory.mktemp("planted") / "planted.jsonl"
    file.write_text("".join(record.model_dump_json() + "\n" for record in karma.records()))
    assert stack.run("karma", "import", str(file)).returncode == 0
    file.unlink()
    return karma


@pytest.fixture(scope="session")
def coder(stack: Stack, planted: Planted) -> Ritual:
    """The coder's ritual on karma with planted values, run once after the scribe's; both personas serve."""
    return _run(stack, "coder")


def _run(stack: Stack, persona: str) -> Ritual:
    ritual = stack.ritual(persona)
    print(ritual.stdout)
    assert ritual.returncode == 0, ritual.stdout + ritual.stderr
    return Ritual(ritual.stdout, stack.newest())


@pytest.fixture(scope="session")
def rehearsal_stack() -> Iterator[Stack]:
    """A stack for rituals with short jobs; up only where a test asks for `rehearsed`."""
    shutil.rmtree(REHEARSAL, ignore_errors=True)
    with stack_of_its_own() as one:
        yield one
    shutil.rmtree(REHEARSAL, ignore_errors=True)


@pytest.fixture
async def rehearsed(rehearsal_stack: Stack) -> Stack:
    """The stack with short jobs, up, after an undisturbed ritual: its persona serves."""
    stack = rehearsal_stack
    if not stack.is_up():
        await stack.up_with_short_jobs()
    if not REHEARSAL.exists():
        await rehearsal.prepare(stack)
        answer = await publish(stack.settings.nats_url, {"persona": rehearsal.PERSONA})
        ritual = UUID(answer["ritual"])
        await eventually(lambda: is_in(stack, ritual, State.AWAKENED), 240, f"{ritual} awakened")
        await rehearsal.assert_persona_serves(stack)
    return stack
