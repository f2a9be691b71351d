"""What `soulforge doctor` finds: the checks before a start, and those that only a look at a home or a driver allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.embedded import postgres, preflight
from deploy.embedded.preflight import Finding, PreflightError
from deploy.embedded.state import read_living
from deploy.services import load_configuration
from shared.drivers.accelerators.nvml import NvmlAccelerator, load_nvml
from shared.drivers.accelerators.port import AcceleratorError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.config.model import Configuration
    from shared.config.settings import Settings

OTHERS = 0o077  # mode bits of everyone but the owner
SHOWN = 3


async def diagnose(settings: Settings) -> list[Finding]:
    """Everything that a stack of this home needs of the machine. Raises ConfigurationError."""
    configuration = load_configuration(settings)
    runs = settings.home.is_dir() and read_living(settings.home)
    return [
        *await preflight.list_needs(settings, configuration),
        *([] if runs else preflight.list_needs_of_start(settings, configuration, set())),
        *_gpu(configuration),
        _postgres(),
        _secrets(settings),
    ]


def _gpu(configuration: Configuration) -> Iterator[Finding]:
    anvils = [anvil for anvil in configuration.anvils.values() if anvil.accelerator == "nvml"]
    if not anvils:
        return
    devices = [index for anvil in anvils for index in anvil.devices]
    try:
        yield Finding("GPU driver", True, NvmlAccelerator(devices, load_nvml()).description)
    except AcceleratorError as error:
        yield Finding("GPU driver", False, str(error))


def _postgres() -> Finding:
    try:
        postgres.unprivileged()
    except PreflightError as error:
        return Finding("postgres", False, str(error))
    return Finding("postgres", True, "can be started as this user")


def _secrets(settings: Settings) -> Finding:
    folder = settings.home / "secrets"
    if not folder.is_dir():
        return Finding("secrets", True, "none are made yet")
    exposed = [path for path in (folder, *sorted(folder.rglob("*"))) if path.stat().st_mode & OTHERS]
    if not exposed:
        return Finding("secrets", True, f"only their owner reads {folder}")
    more = ", …" if len(exposed) > SHOWN else ""
    names = ", ".join(str(path) for path in exposed[:SHOWN])
    return Finding("secrets", False, f"other users may reach {names}{more}: run chmod -R go= {folder}")
