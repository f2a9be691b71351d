"""A real container engine for a test session: the distribution's dockerd on a socket and files of its own.

`SOULFORGE_TEST_ENGINE=unix:///...` takes an engine that runs already, e.g. Podman's; with `SOULFORGE_REQUIRE_DOCKER=1`
an engine that cannot be had is a failure instead of a skip. No image is pulled: the base image is made once by
deploy/docker/image.sh and kept below .cache/.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import NoReturn

import docker
import httpx
import psutil
import pytest

from tests.support.process import is_running

PROJECT = Path(__file__).resolve().parents[2]
RECIPE = PROJECT / "deploy" / "docker" / "image.sh"
IMAGE = "soulforge/base"
NEEDED = ("dockerd", "containerd", "runc", "docker-init", "debootstrap")
READY_S = 60
ANSWER_S = 5  # of one try: a request that got lost is asked again
MAKE_S = 600


class NoEngineError(Exception):
    """This machine cannot have one; the message says why."""


class Daemon:
    """One dockerd that a test may kill and start again; it has no bridge and touches no firewall."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = f"unix://{directory}/docker.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        # After a kill both are dead, but count as alive where nobody reaps them.
        for stale in ("docker.pid", "exec/containerd/containerd.pid"):
            (self.directory / stale).unlink(missing_ok=True)
        with (self.directory / "dockerd.log").open("ab") as log:
            self.process = subprocess.Popen(
                (
                    *("dockerd", "--host", self.url, "--data-root", str(self.directory / "data")),
                    *("--exec-root", str(self.directory / "exec"), "--pidfile", str(self.directory / "docker.pid")),
                    *("--bridge=none", "--iptables=false", "--ip6tables=false"),
                ),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = monotonic() + READY_S
        while not answers(self.url):
            if self.process.poll() is not None or monotonic() > deadline:
                words = (self.directory / "dockerd.log").read_text()[-600:]
                self.stop()
                raise NoEngineError(f"dockerd does not start here: {words}")
            sleep(0.05)

    def kill(self) -> None:
        """As a crash: it cleans nothing up, and the containers may live on."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def cut_power(self) -> None:
        """All of it ends at once, the containers too."""
        self.kill()
        left = self._left()
        for one in left:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs([one for one in left if is_running(one.pid)], READY_S)

    def stop(self) -> None:
        """End it with all its containers, and leave neither a process nor a mount."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(READY_S)
            except subprocess.TimeoutExpired:
                self.kill()
        for left in self._left():
            with suppress(psutil.NoSuchProcess):
                left.kill()
        for line in Path("/proc/mounts").read_text().splitlines()[::-1]:
            if (point := line.split()[1]).startswith(f"{self.directory}/"):
                subprocess.run(("umount", "--lazy", point), check=False)

    def _left(self) -> list[psutil.Process]:
        """Its containerd and the shims, which all name this directory, and what runs below them."""
        found = psutil.process_iter(["cmdline", "name"])
        named = [one for one in found if str(self.directory) in str(one.info["cmdline"]) and one.pid != os.getpid()]
        shims = [one for one in named if "containerd" in str(one.info["name"])]
        below: list[psutil.Process] = []
        for shim in shims:
            with suppress(psutil.NoSuchProcess):  # it may end by itself at any moment
                below += shim.children(recursive=True)
        return [*shims, *below]


def answers(url: str) -> bool:
    path = url.removeprefix("unix://")
    try:
        with socket.socket(socket.AF_UNIX) as visitor:  # A client would leak its socket where nobody listens.
            visitor.connect(path)
        with httpx.Client(transport=httpx.HTTPTransport(uds=path), timeout=ANSWER_S) as client:
            return client.get("http://engine/_ping").is_success
    except (OSError, httpx.HTTPError):
        return False


def base_image() -> Path:
    """The tar of the base image, made now if its recipe is new: about a minute and a half.

    Test processes side by side wait for the one that makes it.
    """
    digest = hashlib.sha256(RECIPE.read_bytes()).hexdigest()[:16]
    tar = PROJECT / ".cache" / "images" / f"base-{digest}.tar"
    tar.parent.mkdir(parents=True, exist_ok=True)
    with tar.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tar.exists():
            _make_image(tar)
    return tar


def _make_image(tar: Path) -> None:
    started = monotonic()
    made = subprocess.run((str(RECIPE), str(tar)), capture_output=True, text=True, timeout=MAKE_S, check=False)
    if made.returncode:
        raise NoEngineError(f"the base image could not be made: {(made.stdout + made.stderr)[-600:]}")
    print(f"\nbase image made in {monotonic() - started:.0f} s, {tar.stat().st_size >> 20} MiB")


def load_image(url: str) -> None:
    """Import the base image unless the engine has it."""
    client = docker.APIClient(base_url=url, timeout=MAKE_S)
    try:
        if not client.images(IMAGE):
            client.import_image_from_file(str(base_image()), repository=IMAGE, tag="latest")
    finally:
        client.close()


@contextmanager
def daemon() -> Iterator[Daemon]:
    """An engine of our own with the base image in it. Raises NoEngineError."""
    missing = [name for name in NEEDED if not shutil.which(name)]
    if missing:
        raise NoEngineError(f"{', '.join(missing)} missing: apt-get install docker.io debootstrap")
    if os.getuid():
        raise NoEngineError("only root can start dockerd; name a running engine in SOULFORGE_TEST_ENGINE")
    directory = Path(tempfile.mkdtemp(prefix="soulforge-engine-"))
    running = Daemon(directory)
    try:
        started = monotonic()
        running.start()
        up = monotonic()
        load_image(running.url)
        print(f"\nengine up in {up - started:.1f} s, image imported in {monotonic() - up:.1f} s")
        yield running
    finally:
        running.stop()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def dockerd() -> Iterator[Daemon]:
    """An engine that a test may kill, and starts again."""
    try:
        with daemon() as running:
            yield running
    except NoEngineError as error:
        _without(str(error))


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> str:
    """The URL of an engine that has the base image."""
    given = os.environ.get("SOULFORGE_TEST_ENGINE")
    if given is None:
        return str(request.getfixturevalue("dockerd").url)
    if not answers(given):
        _without(f"nothing answers at {given}")
    load_image(given)
    return given


def _without(reason: str) -> NoReturn:
    if os.environ.get("SOULFORGE_REQUIRE_DOCKER") == "1":
        pytest.fail(f"SOULFORGE_REQUIRE_DOCKER=1, but there is no container engine: {reason}")
    pytest.skip(f"no container engine: {reason}")
