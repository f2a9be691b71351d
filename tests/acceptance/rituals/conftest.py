"""A stack with real jobs, and each persona's ritual on it, once for all tests of this folder: one by OpenAI's client, one by ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.config.settings import PROJECT
from tests.support.openai_script import ScriptRun, run_script
from tests.support.planted import Planted
from tests.support.running import Ritual, Stack, stack_of_its_own


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A stack whose jobs are the real ones; the first ritual puts it up."""
    with stack_of_its_own() as one:
        yield one


@pytest.fixture(scope="session")
def script(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> ScriptRun:
    """The script of docs/from-openai.md on the scribe's karma, run once, with a second job beside it."""
    up = stack.run("up")
    assert up.returncode == 0, up.stdout + up.stderr
    return run_script(stack, PROJECT / "examples" / "karma" / "scribe.jsonl", tmp_path_factory.mktemp("script"))


@pytest.fixture(scope="session")
def scribe(stack: Stack, script: ScriptRun) -> Ritual:
    """The scribe's ritual, which is a fine-tuning job; its persona serves."""
    print(script.output)
    return Ritual(script.output, stack.show(str((script.job.model_extra or {})["soulforge"]["ritual"])))


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
    """The coder's ritual as `make ritual` runs it, on karma with planted values, after the scribe's; both personas serve."""
    ritual = stack.ritual("coder")
    print(ritual.stdout)
    assert ritual.returncode == 0, ritual.stdout + ritual.stderr
    return Ritual(ritual.stdout, stack.newest())
