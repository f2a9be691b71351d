"""What a fake vLLM gets wrong, told by the environment at the start or by a file at any time.

The fields of `Faults` are environment variables `FAKE_VLLM_<FIELD>` (true, false, numbers), overridden by the JSON
object in the file FAKE_VLLM_FILE, which is read again at each use, so that a test can change its mind. What concerns the
start is read at the start.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

MIB = 1024**2


@dataclass(frozen=True)
class Faults:
    """What goes wrong, and how slow it is. Everything off by default."""

    token_s: float = 0.02  #: seconds per token of an answer
    start_s: float = 0.0  #: seconds before it listens
    memory_mib: int = 0  #: memory that the server holds; /sleep frees it, /wake_up takes it again
    keep_memory: bool = False  #: /sleep answers 200 and frees nothing, as on a CPU
    ignore_sigterm: bool = False  #: SIGTERM does nothing
    exit_after_s: float = 0.0  #: the server exits by itself so long after its start
    respawn: bool = (
        False  #: a parent starts the server again each time it exits, also after SIGTERM to the server alone
    )
    child_mib: int = 0  #: a child in the same process group outlives the server, ignores SIGTERM, holds that memory
    child_detached: bool = False  #: the child leaves process group and session
    never_healthy: bool = False  #: /health answers 503
    answers_500: bool = False  #: healthy, but every completion fails
    finish: str = "length"  #: why every answer ends, as it is reported
    salt: str = ""  #: other words: answers differ from those with another salt
    salt_after_restart: bool = False  #: every start but the first answers with other words; needs FAKE_VLLM_FILE
    hang: bool = False  #: completions never end, hear neither disconnect nor cancellation; only SIGKILL ends the server
    exits_at_answer: bool = False  #: a completion ends the server
    stuck_running: int = 0  #: /metrics speaks of so many running requests, always
    no_adapters: bool = False  #: /v1/load_lora_adapter fails
    exits_at_load: bool = False  #: /v1/load_lora_adapter ends the server


def faults() -> Faults:
    said: dict[str, Any] = {}
    for field in fields(Faults):
        if (value := os.environ.get(f"FAKE_VLLM_{field.name.upper()}")) is not None:
            said[field.name] = value if field.type == "str" else json.loads(value)
    if (file := file_of_faults()) and file.exists():
        said |= json.loads(file.read_text())
    return Faults(**said)


def file_of_faults() -> Path | None:
    named = os.environ.get("FAKE_VLLM_FILE")
    return Path(named) if named else None


def leave_a_child(mib: int, detached: bool) -> None:
    """A process that nobody asked for and that SIGTERM does not end."""
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"held = b'1' * ({mib} * {MIB}); time.sleep(600)"
    )
    subprocess.Popen((sys.executable, "-c", code), start_new_session=detached)


def respawn() -> None:
    """Start the server again and again; SIGTERM to this parent does not reach it while it ignores SIGTERM."""
    env = {**os.environ, "FAKE_VLLM_RESPAWN": "false", "FAKE_VLLM_RESPAWNED": "true"}
    while True:
        subprocess.run((sys.executable, "-m", "tests.support.fakes.fake_vllm", *sys.argv[1:]), env=env, check=False)
        time.sleep(0.1)


def started_before() -> bool:
    """True from the second start on with the same file of faults."""
    file = file_of_faults()
    if file is None:
        return False
    mark = file.with_name(f"{file.name}.started")
    before = mark.exists()
    mark.touch()
    return before
