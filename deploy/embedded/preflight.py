"""Checks of the machine before the stack is started; each failure includes what to do."""

from __future__ import annotations

import ctypes
import shutil
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from deploy.services import SERVICES, load_configuration, service_port
from shared.config.settings import PORT_OFFSETS, Settings
from shared.drivers.containers.open import open_containers
from shared.jobs.isolation import get_isolation
from shared.runtime.presence import Isolation
from shared.storage.base_model import CONFIG

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shared.config.model import Configuration

GIB = 1024**3
MEMORY_NEEDED = 5 * GIB
DISK_NEEDED = 3 * GIB
COMPILERS = ("cc", "gcc", "clang")
FREE_PORT = "end it, or set SOULFORGE_PORT_BASE"


class PreflightError(Exception):
    """The stack cannot be started; the message includes the reason and what to do."""


@dataclass(frozen=True)
class Finding:
    """One part: whether it can do its job, and why not or what it does. `warning` marks a part that does it unsafely."""

    part: str
    ok: bool
    text: str
    warning: bool = False


async def check(settings: Settings, own_ports: Iterable[str] = ()) -> list[Finding]:
    """Raise PreflightError naming everything that is missing, else return the warnings.

    `own_ports` are parts of ours that run already.
    """
    configuration = load_configuration(settings)
    findings = [
        *await list_needs(settings, configuration),
        *list_needs_of_start(settings, configuration, set(own_ports)),
    ]
    if faults := [finding.text for finding in findings if not finding.ok]:
        raise PreflightError("\n".join(faults))
    return [finding for finding in findings if finding.warning]


async def list_needs(settings: Settings, configuration: Configuration) -> list[Finding]:
    """What a stack needs for as long as it runs."""
    isolation = await get_isolation_finding(settings, configuration)
    return [*_software(configuration), isolation, *_bases(configuration), _disk(settings)]


def list_needs_of_start(settings: Settings, configuration: Configuration, own_ports: set[str]) -> list[Finding]:
    """What a stack needs to start, and has taken once it runs."""
    return [_memory(), *_ports(settings, configuration, own_ports)]


async def get_isolation_finding(settings: Settings, configuration: Configuration) -> Finding:
    """Whether the jobs of this configuration are started on this machine, and isolated."""
    jobs = configuration.jobs
    found = await get_isolation(open_containers(settings, jobs.driver, configuration.docker), jobs)
    match found.isolation:
        case Isolation.ISOLATED:
            return Finding("isolation", True, "jobs are isolated")
        case Isolation.UNISOLATED:
            return unisolated_finding("isolation", found.why)
        case Isolation.REFUSED:
            return Finding("isolation", False, found.why)


def unisolated_finding(part: str, why: str) -> Finding:
    text = f"jobs run UNISOLATED, as allow_unisolated under [jobs] in soulforge.toml permits: {why}"
    return Finding(part, True, text, warning=True)


def _software(configuration: Configuration) -> Iterator[Finding]:
    if (python := configuration.jobs.python).exists():
        yield Finding("python", True, str(python))
    else:
        missing = f"the environment with torch is missing ({python})"
        yield Finding("python", False, f"{missing}: run `make setup`, or set jobs.python in soulforge.toml")
    try:
        ctypes.CDLL("libnuma.so.1")
        yield Finding("libnuma", True, "is installed")
    except OSError:
        missing = "the system library libnuma.so.1 is missing; vLLM needs it"
        yield Finding("libnuma", False, f"{missing}: install it (Debian, Ubuntu: apt-get install libnuma1)")
    if compiler := next((found for name in COMPILERS if (found := shutil.which(name))), None):
        yield Finding("C compiler", True, compiler)
    else:
        missing = "a C compiler is missing; vLLM needs it"
        yield Finding("C compiler", False, f"{missing}: install one (Debian, Ubuntu: apt-get install gcc)")


def _bases(configuration: Configuration) -> Iterator[Finding]:
    for name, base in configuration.bases.items():
        if name in configuration.bases_in_use():
            there = (base.path / CONFIG).is_file()
            missing = f"there is no base model in {base.path} ({CONFIG} is missing): correct bases.{name}.path in soulforge.toml"
            yield Finding(f"base {name}", there, str(base.path) if there else missing)


def _memory() -> Finding:
    free = psutil.virtual_memory().available
    text = f"{free / GIB:.1f} GiB of memory are available, {MEMORY_NEEDED / GIB:.0f} GiB are needed"
    ok = free >= MEMORY_NEEDED
    return Finding("memory", ok, text if ok else f"{text}: end other programs")


def _disk(settings: Settings) -> Finding:
    there = next(folder for folder in (settings.home, *settings.home.parents) if folder.exists())
    left = shutil.disk_usage(there).free
    text = f"{left / GIB:.1f} GiB are free on the disk of {settings.home}, {DISK_NEEDED / GIB:.0f} GiB are needed"
    ok = left >= DISK_NEEDED
    return Finding("disk", ok, text if ok else f"{text}: make room, or set SOULFORGE_HOME")


def _ports(settings: Settings, configuration: Configuration, own: set[str]) -> list[Finding]:
    wanted = {part: settings.port(part) for part in PORT_OFFSETS}
    wanted |= {service: service_port(settings, service) for service in SERVICES}
    wanted |= configuration.ports(settings)
    taken = [
        Finding("ports", False, f"port {port} ({part}) on {settings.host} is taken by another program: {FREE_PORT}")
        for part, port in wanted.items()
        if part not in own and not _free(settings.host, port)
    ]
    return taken or [Finding("ports", True, f"{len(wanted)} from {min(wanted.values())} on are free")]


def _free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a port whose last connections are in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
