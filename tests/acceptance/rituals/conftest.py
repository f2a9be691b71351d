"""A stack with real jobs, and each persona's ritual on it, once for all tests of this folder that ask for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.planted import Planted
from tests.support.running import Ritual, Stack, stack_of_its_own


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
