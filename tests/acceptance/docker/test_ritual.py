"""One whole ritual with the rune and both jobs as real containers: real vLLM, real trainer, real evaluator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import docker
import pytest

from shared.config.settings import PROJECT
from tests.support.engine import IMAGE
from tests.support.model import MODEL
from tests.support.servers import free_port_base

pytestmark = pytest.mark.timeout(3600)

HOUSE = "soulforge-ritual"
TOML = """
forge = "anvil0"
[anvils.anvil0]
[runes.rune]
driver = "docker"
image = "{image}"
[covens.hearth]
anvil = "anvil0"
runes = ["rune"]
[jobs]
driver = "docker"
image = "{image}"
[docker]
host = "{host}"
installation = "{house}"
"""
RITUAL_S = 2400


@pytest.fixture
def environment(engine: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """That of every command: a house of its own whose configuration names the engine."""
    config = tmp_path / "soulforge.toml"
    config.write_text(TOML.format(image=IMAGE, host=engine, house=HOUSE))
    environment = {
        **os.environ,
        "SOULFORGE_HOME": str(tmp_path / "home"),
        "SOULFORGE_PORT_BASE": str(free_port_base()),
        "SOULFORGE_MODELS": str(MODEL.parent),
        "SOULFORGE_CONFIG": str(config),
    }
    yield environment
    soulforge(environment, "down")
    client = docker.DockerClient(base_url=engine)
    for container in client.containers.list(all=True):
        container.remove(force=True)
    client.close()


def soulforge(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = (str(Path(sys.executable).with_name("soulforge")), *words)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)


def test_a_ritual_whose_rune_and_jobs_are_containers_ends_with_an_adapter_that_answers(
    engine: str, environment: dict[str, str]
) -> None:
    assert MODEL.is_dir(), "the base model is missing: make test-docker prepares it"
    made = soulforge(environment, "runes", "create")
    assert made.returncode == 0, made.stderr
    assert "created from" in made.stdout
    began = monotonic()
    ritual = subprocess.run(
        (sys.executable, "-m", "deploy.ritual", "scribe", "--keep"),
        env=environment, cwd=PROJECT, capture_output=True, text=True, timeout=RITUAL_S, check=False,
    )  # fmt: skip
    assert ritual.returncode == 0, ritual.stdout[-4000:] + ritual.stderr[-2000:]

    report = newest(environment)
    facts = {state["fact"]: state["details"] for state in report["states"]}
    print(f"a whole ritual in containers: {monotonic() - began:.0f} s")
    print("hand-over:", json.dumps(report["hand_overs"][0]["phases"]))
    print("trainer:", facts["adapter.forged"]["isolation"], "evaluator:", facts["adapter.verified"]["isolation"])

    assert report["state"] == "awakened"
    assert report["decision"] == "promote"
    assert facts["gpu.evacuated"]["memory_after"] == 0 < facts["gpu.evacuated"]["memory_before"]
    assert facts["gpu.restored"]["probes_equal"] is True
    for fact in ("adapter.forged", "adapter.verified"):
        assert {"network", "filesystem", "capabilities", "pid"} <= set(facts[fact]["isolation"])
    assert {"rune"} == roles(engine), "jobs are removed once their end is stated; the rune stays"
    answer = soulforge(environment, "ask", "scribe", "Note about the gate: it squeaks; the post is loose.")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip()


def newest(environment: dict[str, str]) -> dict[str, Any]:
    listed = soulforge(environment, "rituals")
    name = listed.stdout.splitlines()[1].split()[0]
    report: dict[str, Any] = json.loads(soulforge(environment, "show", name, "--json").stdout)
    return report


def roles(engine: str) -> set[str]:
    client = docker.DockerClient(base_url=engine)
    try:
        listed = client.containers.list(all=True)
        return {container.labels.get("soulforge.role", "?") for container in listed}
    finally:
        client.close()
