"""The proxy before an engine, run as users run it, and what a client sends it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from shared.drivers.containers.docker_request import EngineKind, create_body
from tests.support.engine import IMAGE, answers
from tests.support.payloads import FOREVER, INTERPRETER, MEBIBYTE, Work

HOUSE = f"test-{uuid4().hex[:8]}"
JOB = f"{HOUSE}-payload"
USER = "65532:65532"
MEMORY = 256 * MEBIBYTE
STARTS_WITHIN_S = 90


@contextmanager
def proxy(engine: str, listen: Path, lab: Path, *more: str) -> Iterator[str]:
    """The URL of a proxy whose jobs may write below `lab` only."""
    command = [
        *(sys.executable, "-m", "deploy.docker.proxy", "--listen", str(listen), "--installation", HOUSE),
        *("--engine", engine.removeprefix("unix://"), "--binds", f"{lab}-binds", "--image", IMAGE, "--user", USER),
        *("--writable", str(lab), "--memory-gib", "1", "--device", "0", *more),
        *(word for mount in INTERPRETER for word in ("--readable", str(mount.path))),
    ]
    with listen.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + STARTS_WITHIN_S
    try:
        while not answers(f"unix://{listen}"):
            assert process.poll() is None and time.monotonic() < deadline, listen.with_suffix(".log").read_text()
            time.sleep(0.05)
        yield f"unix://{listen}"
    finally:
        process.terminate()
        process.wait(30)


def connected(url: str) -> httpx.AsyncClient:
    """A client of the proxy without the driver."""
    transport = httpx.AsyncHTTPTransport(uds=url.removeprefix("unix://"), verify=False)  # it has no certificates
    return httpx.AsyncClient(transport=transport, base_url="http://proxy/v1.41", timeout=60)


def body(work: Work, code: str = FOREVER) -> dict[str, Any]:
    """The request for a job, as the driver sends it."""
    spec = work.spec(code, isolated=True, memory_bytes=MEMORY)
    return create_body(spec, HOUSE, IMAGE, EngineKind(), USER).request()


def bind(source: str, target: str | None = None, read_only: bool = True, recursive: bool = False) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": source,
        "Target": target or source,
        "ReadOnly": read_only,
        "BindOptions": {"Propagation": "rprivate", "NonRecursive": not recursive},
    }


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The only place where a job may write."""
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="session")
def proxied(engine: str, lab: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the proxy of the services."""
    with proxy(engine, tmp_path_factory.mktemp("proxy") / "proxy.sock", lab) as url:
        yield url
