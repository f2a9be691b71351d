"""Checks before the stack is started; each failure includes what to do."""

from __future__ import annotations

import ctypes
import shutil
import socket
from typing import TYPE_CHECKING

import psutil

from deploy.services import SERVICES, load_configuration, service_port
from shared.config.settings import PORT_OFFSETS, Settings
from shared.storage.base_model import CONFIG

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.config.model import Configuration

GIB = 1024**3
MEMORY_NEEDED = 5 * GIB
DISK_NEEDED = 3 * GIB


class PreflightError(Exception):
    """The stack cannot be started; the message includes the reason and what to do."""


def check(settings: Settings, own_ports: Iterable[str] = ()) -> None:
    """Raise PreflightError naming everything that is missing. `own_ports` are parts of ours that run already."""
    configuration = load_configuration(settings)
    faults = [
        *_software(configuration),
        *_bases(configuration),
        *_room(settings),
        *_ports(settings, configuration, set(own_ports)),
    ]
    if faults:
        raise PreflightError("\n".join(faults))


def _software(configuration: Configuration) -> Iterable[str]:
    if not (python := configuration.jobs.python).exists():
        yield f"the environment with torch is missing ({python}): run `make setup`, or set jobs.python in soulforge.toml"
    try:
        ctypes.CDLL("libnuma.so.1")
    except OSError:
        yield "the system library libnuma.so.1 is missing; vLLM needs it: install it (Debian, Ubuntu: apt-get install libnuma1)"
    if not any(shutil.which(name) for name in ("cc", "gcc", "clang")):
        yield "a C compiler is missing; vLLM needs it: install one (Debian, Ubuntu: apt-get install gcc)"


def _bases(configuration: Configuration) -> Iterable[str]:
    for name, base in configuration.bases.items():
        if name in configuration.bases_in_use() and not (base.path / CONFIG).is_file():
            yield f"there is no base model in {base.path} ({CONFIG} is missing): correct bases.{name}.path in soulforge.toml"


def _room(settings: Settings) -> Iterable[str]:
    free = psutil.virtual_memory().available
    if free < MEMORY_NEEDED:
        yield f"{free / GIB:.1f} GiB of memory are available, {MEMORY_NEEDED / GIB:.0f} GiB are needed: end other programs"
    left = shutil.disk_usage(settings.home).free
    if left < DISK_NEEDED:
        yield (
            f"{left / GIB:.1f} GiB are free on the disk of {settings.home}, {DISK_NEEDED / GIB:.0f} GiB are needed: "
            "make room, or set SOULFORGE_HOME"
        )


def _ports(settings: Settings, configuration: Configuration, own: set[str]) -> Iterable[str]:
    fixed = {part: settings.port(part) for part in PORT_OFFSETS if part != "rune"}
    fixed |= {service: service_port(settings, service) for service in SERVICES}
    for part, port in {**fixed, **configuration.ports(settings)}.items():
        if part not in own and not _free(settings.host, port):
            yield f"port {port} ({part}) on {settings.host} is taken by another program: end it, or set SOULFORGE_PORT_BASE"


def _free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a port whose last connections are in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
