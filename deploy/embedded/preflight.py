"""What must hold before the stack is started; each check that fails says what to do about it."""

from __future__ import annotations

import ctypes
import shutil
import socket
from typing import TYPE_CHECKING

import psutil

from deploy.services import SERVICES, service_port
from shared.config.load import load
from shared.config.settings import PORT_OFFSETS, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

GIB = 1024**3
MEMORY_NEEDED = 5 * GIB
DISK_NEEDED = 3 * GIB


class PreflightError(Exception):
    """The stack cannot be started here and now; the message says why and what to do."""


def check(settings: Settings, own_ports: Iterable[str] = ()) -> None:
    """Raise PreflightError naming everything that is missing. `own_ports` are parts of ours that run already."""
    faults = [*_software(settings), *_room(settings), *_ports(settings, set(own_ports))]
    if faults:
        raise PreflightError("\n".join(faults))


def _software(settings: Settings) -> Iterable[str]:
    if not settings.jobs_python.exists():
        yield f"the environment with torch is missing ({settings.jobs_python}): run `make setup`"
    try:
        ctypes.CDLL("libnuma.so.1")
    except OSError:
        yield "the system library libnuma.so.1 is missing; vLLM needs it: install it (Debian, Ubuntu: apt-get install libnuma1)"
    if not any(shutil.which(name) for name in ("cc", "gcc", "clang")):
        yield "a C compiler is missing; vLLM needs it: install one (Debian, Ubuntu: apt-get install gcc)"


def _room(settings: Settings) -> Iterable[str]:
    free = psutil.virtual_memory().available
    if free < MEMORY_NEEDED:
        yield f"{free / GIB:.1f} GiB of memory are available, {MEMORY_NEEDED / GIB:.0f} GiB are needed: end other programs"
    settings.home.mkdir(parents=True, exist_ok=True)
    left = shutil.disk_usage(settings.home).free
    if left < DISK_NEEDED:
        yield (
            f"{left / GIB:.1f} GiB are free on the disk of {settings.home}, {DISK_NEEDED / GIB:.0f} GiB are needed: "
            "make room, or set SOULFORGE_HOME"
        )


def _ports(settings: Settings, own: set[str]) -> Iterable[str]:
    fixed = {part: settings.port(part) for part in PORT_OFFSETS if part != "rune"}
    fixed |= {service: service_port(settings, service) for service in SERVICES}
    for part, port in {**fixed, **load(settings).ports(settings)}.items():
        if part not in own and not _free(settings.host, port):
            yield f"port {port} ({part}) on {settings.host} is taken by another program: end it, or set SOULFORGE_PORT_BASE"


def _free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a port whose last connections are only timing out is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
