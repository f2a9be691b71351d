"""Every target of the Makefile and every command that the documents show, run as it is written there, in its short form.

The stack is the embedded one with a small engine in place of vLLM: what the commands do to a real one is tested end to end.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.config.settings import PROJECT
from shared.config.tables import EMBEDDED_BASE
from shared.contracts.intent import TrainingIntent
from shared.contracts.roles import Role
from shared.messaging.client import connect
from tests.support.documented import NOT_RUN, SHORT_FORMS, Command, list_commands
from tests.support.running import Stack, left_running
from tests.support.servers import free_port_base

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

#: What `make` takes as made: the environments that these tests run in.
MADE = ("setup", ".venv/.ready", ".venv-jobs/.ready")
BY_THE_STACK = {"up", "down"}
WRITTEN = {"contracts": "docs", "karma": "examples/karma", "suite": "services/verifier/suites"}
WITHIN_S = 60

ENGINE = """
forge = "anvil0"
[anvils.anvil0]
accelerator = "cpu"
[runes.rune]
command = {command}
env = {{ PYTHONPATH = "{project}" }}
max_loras = 4
[covens.hearth]
anvil = "anvil0"
runes = ["rune"]
"""
ENGINE_COMMAND = (sys.executable, "-m", "tests.support.fakes.fake_vllm", "--uds", "{socket}")

#: The documented commands in the order in which they are run, each with the exit code it ends with here.
COMMANDS: dict[str, int] = {
    "doctor": 0,
    "status": 0,
    "config example": 0,
    "config check": 0,
    "config show": 0,
    "karma import": 0,
    "karma stats": 0,
    "karma explain": 0,
    "intend": 0,
    "manifest show": 0,
    "recall": 0,
    "show": 0,
    "report": 0,
    "pause": 0,
    "keys add": 0,
    "keys list": 0,
    "keys revoke": 0,
    "cancel": 0,
    "watch": 1,  # the ritual did not end in an adapter
    "adapters": 0,
    "dead-letters list": 0,
    "dead-letters show": 0,
    "dead-letters replay": 0,
    "karma revoke": 0,
    "reclaim": 0,
    "prune": 0,
}
COMMANDS_NOT_RUN = {
    "ask": "needs an adapter that serves; the end-to-end tests ask both personas",
    "compare": "needs an adapter that serves; tests/integration/test_gateway_commands.py compares two",
    "verify": "needs a bundle; the end-to-end tests verify that of both personas",
}


def make(*words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    made = [word for name in MADE for word in ("-o", name)]
    return subprocess.run(
        ["make", *made, *words],
        cwd=PROJECT,
        env=environment or dict(os.environ),
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )


@pytest.mark.parametrize("target", sorted(SHORT_FORMS.keys() - BY_THE_STACK))
def test_every_target_runs_in_its_short_form(target: str) -> None:
    before = _files(target)

    run = make(target, *SHORT_FORMS[target])

    assert run.returncode == 0, run.stdout + run.stderr
    assert _files(target) == before, "what is generated is committed as it is generated"


@pytest.mark.parametrize("target", sorted(NOT_RUN))
def test_every_other_target_parses(target: str) -> None:
    parsed = make("-n", target)

    assert parsed.returncode == 0, parsed.stderr
    assert parsed.stdout.strip()


def _files(target: str) -> dict[Path, bytes]:
    """What a target that writes into the repository writes."""
    folder = PROJECT / WRITTEN[target] if target in WRITTEN else None
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} if folder else {}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A stack that `make up` started and `make down` ends."""
    one = Stack(Path(tempfile.mkdtemp(prefix="soulforge-documented-")) / "home", free_port_base())
    one.home.mkdir()
    command = json.dumps([*ENGINE_COMMAND, "--served-model-name", EMBEDDED_BASE])
    (one.home / "soulforge.toml").write_text(ENGINE.format(command=command, project=PROJECT))
    up = make("up", environment=one.environment)
    try:
        assert up.returncode == 0, up.stdout + up.stderr
        yield one
    finally:
        down = make("down", environment=one.environment)
        left = left_running(one.home)
        shutil.rmtree(one.home.parent, ignore_errors=True)
    assert down.returncode == 0, down.stdout + down.stderr
    assert not left, left


def test_every_shown_command_is_run_or_has_a_reason_why_not() -> None:
    assert {_path(command) for command in list_commands("soulforge")} == {*COMMANDS, *COMMANDS_NOT_RUN}


async def test_every_shown_command_runs_as_it_is_written(stack: Stack, tmp_path: Path) -> None:
    client = await connect(stack.settings, Role.PUBLISHER)
    await client.publish(TrainingIntent.subject, b"{}")  # a message that becomes dead letter harvester/1
    await client.close()
    records = PROJECT / "examples/karma/scribe.jsonl"
    values = {
        "mine.jsonl": str(records),
        "karma.jsonl": str(records),
        "preferences.jsonl": str(_write_preference(tmp_path / "preferences.jsonl")),
        "scribe.svg": str(tmp_path / "scribe.svg"),
        "night-report": str(tmp_path / "night-report"),
        "n-17": json.loads(records.read_text().splitlines()[0])["id"],
    }
    by_path = {path: [one for one in list_commands("soulforge") if _path(one) == path] for path in COMMANDS}
    for path, code in COMMANDS.items():
        for command in by_path[path]:
            run = stack.run(*(values.get(word, word) for word in command.words), timeout_s=120)
            assert run.returncode == code, f"{command}\n{run.stdout}{run.stderr}"
            if path == "intend":
                values["3f2a"] = run.stdout.split()[0]
                _wait_harvested(stack, values["3f2a"])


def _write_preference(path: Path) -> Path:
    asked = {"messages": [{"role": "user", "content": "Note about the gate: it squeaks."}]}
    better, worse = ([{"role": "assistant", "content": text}] for text in ("gate | squeaks", "The gate squeaks."))
    path.write_text(json.dumps({"input": asked, "preferred_output": better, "non_preferred_output": worse}) + "\n")
    return path


def _path(command: Command) -> str:
    """The command without its arguments, e.g. `karma import`."""
    paths = {*COMMANDS, *COMMANDS_NOT_RUN}
    return next(
        (" ".join(command.words[:length]) for length in (2, 1) if " ".join(command.words[:length]) in paths), ""
    )


def _wait_harvested(stack: Stack, ritual: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not stack.show(ritual)["digests"].get("manifest"):
        assert time.monotonic() < deadline, f"not harvested within {WITHIN_S} s"
        time.sleep(0.5)
