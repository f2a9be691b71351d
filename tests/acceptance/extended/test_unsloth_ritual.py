"""A whole ritual that Unsloth trains, on a base in 4 bit: `make test-handover` runs it with the other long ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.home import claim
from shared.config.settings import PROJECT
from tests.support.model import needs_jobs, require_unsloth
from tests.support.running import Stack, stack_of_its_own

pytestmark = [needs_jobs, pytest.mark.extended, pytest.mark.timeout(3600)]


@pytest.fixture
def stack() -> Iterator[Stack]:
    require_unsloth()
    with stack_of_its_own() as one:
        claim(one.home)
        recipes = one.home / "recipes"
        recipes.mkdir()
        default = (PROJECT / "shared/config/recipes/default.toml").read_text()
        (recipes / "four-bit.toml").write_text(f'engine = "unsloth"\nmethod = "qlora"\n{default}')
        (one.home / "soulforge.toml").write_text('recipes = "recipes"\n')
        up = one.run("up", "--detach")
        assert up.returncode == 0, up.stdout + up.stderr
        yield one


def test_a_ritual_is_trained_by_unsloth_in_the_sandbox_and_awakened(stack: Stack) -> None:
    assert stack.run("karma", "import", str(PROJECT / "examples/karma/scribe.jsonl")).returncode == 0

    assert stack.run("intend", "scribe", "--recipe", "four-bit").returncode == 0
    print(stack.run("watch").stdout)

    report = stack.newest()
    forged = next(fact["details"] for fact in report["states"] if fact["fact"] == "adapter.forged")
    assert report["state"] == "awakened"
    assert forged["training"]["choice"]["engine"] == "unsloth"
    assert {"process-group", "environment", "network", "filesystem", "capabilities"} <= set(forged["isolation"])
    assert stack.run("ask", "scribe", "Note about the bicycle shed: the lock is rusty.").stdout.startswith("Note | ")
