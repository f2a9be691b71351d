"""A stack whose jobs are short, for the tests of this folder: up, with a persona that serves, whenever one asks for it."""

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
from tests.support.running import Stack, eventually, stack_of_its_own


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
        answer = await publish(stack.settings, {"persona": rehearsal.PERSONA})
        ritual = UUID(answer["ritual"])
        await eventually(lambda: is_in(stack, ritual, State.AWAKENED), 240, f"{ritual} awakened")
        await rehearsal.assert_persona_serves(stack)
    return stack
