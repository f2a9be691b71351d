"""Try from inside a sandbox what a job must not do: `python -m tests.support.attempted FOLDER [--without-sandbox]`.

Prints the outcomes as JSON, or why the job was refused. A process of its own, so that a test can run it as any account.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

from pydantic import Field

from shared.contracts.frozen import Frozen
from shared.drivers.containers.port import ContainerError, ContainerSpec, Mount
from shared.drivers.containers.process import ProcessContainers
from tests.support.attempts.attempt import MIB, Plan
from tests.support.payloads import INTERPRETER, ended

ATTEMPTS = Path(__file__).parent / "attempts"
RUN = f"import runpy, sys; sys.path.append({str(ATTEMPTS.parent)!r}); runpy.run_module('attempts', alter_sys=True, run_name='__main__')"
PIDS = 64
SHM_BYTES = 16 * MIB
SET_ID = stat.S_ISUID | stat.S_ISGID


class Tried(Frozen):
    """What became of a job: the outcome of each attempt, or why it did not start; and the files with privileges it left."""

    uid: int
    outcomes: dict[str, str] = Field(default_factory=dict)
    refused: str | None = None
    privileged: tuple[str, ...] = ()
    owners: tuple[int, ...] = ()
    log: str = ""


@contextmanager
def outside(folder: Path) -> Iterator[Plan]:
    """Lay out what there is to reach for: files, sockets, shared memory, a process."""
    home, inputs = folder / "project/home", folder / "inputs"
    output = home / "lab/run/out"
    places = (
        "secrets/database",
        "lab/holdout.jsonl",
        "lab/other/out/adapter",
        "../owner",
        "../../inputs/hidden/secret",
    )
    secrets = [Path(os.path.normpath(home / place)) for place in places]
    for path in (*secrets, inputs / "data", inputs / "more"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("confidential")
    output.mkdir(parents=True)
    marker = f"outside-{uuid4().hex}"
    shared_memory = Path("/dev/shm", marker)
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        for address in (str(folder / "socket"), f"\0{marker}"):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(address)
            listener.listen()
        sleeper = subprocess.Popen(["sleep", "600"], env={"MARKER": marker}, start_new_session=True)
        stack.callback(sleeper.wait)
        stack.callback(sleeper.kill)
        shared_memory.write_text("confidential")
        stack.callback(shared_memory.unlink)
        yield Plan(
            inputs=str(inputs),
            output=str(output),
            home=str(home),
            secrets=tuple(map(str, secrets)),
            shared_memory=str(shared_memory),
            socket=str(folder / "socket"),
            abstract=marker,
            port=server.getsockname()[1],
            pid=sleeper.pid,
            marker=marker,
            pids=PIDS,
            shm_bytes=SHM_BYTES,
        )


def job(folder: Path, plan: Plan, isolated: bool) -> ContainerSpec:
    """A job as Soulforge starts one: inputs read-only, one of them around the home, which is hidden but for the output."""
    asked = folder / "plan.json"
    asked.write_text(json.dumps({**plan._asdict(), "harmless_only": not isolated}))
    readable = (*INTERPRETER, Mount(path=ATTEMPTS), Mount(path=asked), Mount(path=Path(plan.inputs)))
    return ContainerSpec(
        name="attempts",
        command=(sys.executable, "-I", "-S", "-c", RUN, str(asked)),
        cwd=Path(plan.output),
        mounts=(*readable, Mount(path=folder / "project"), Mount(path=Path(plan.output), read_only=False)),
        hidden=(Path(plan.home), Path(plan.inputs, "hidden"), folder / "project/owner"),
        isolated=isolated,
        memory_bytes=1024 * MIB,
        shm_bytes=SHM_BYTES,
        time_limit_s=60,
        pids=PIDS,
    )


async def attempted(folder: Path, isolated: bool) -> Tried:
    containers = ProcessContainers(folder / "containers")
    with outside(folder) as plan:
        try:
            await containers.start(job(folder, plan, isolated))
        except ContainerError as error:
            return Tried(uid=os.getuid(), refused=str(error))
        try:
            await ended(containers, "attempts")
        finally:
            await containers.kill("attempts")
        left = [path for path in Path(plan.output).iterdir() if not path.is_symlink()]
        outcomes = Path(plan.output, "OUTCOMES.json")
        return Tried(
            uid=os.getuid(),
            outcomes=json.loads(outcomes.read_text()) if outcomes.exists() else {},
            privileged=tuple(path.name for path in left if path.stat().st_mode & SET_ID),
            owners=tuple({path.stat().st_uid for path in left}),
            log=await containers.logs("attempts"),
        )


if __name__ == "__main__":
    print(asyncio.run(attempted(Path(sys.argv[1]), "--without-sandbox" not in sys.argv)).model_dump_json())
