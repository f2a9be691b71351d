"""The energy that the device uses, by its own counter: NVML's for GPUs, RAPL's for processors. Nothing is estimated.

A counter is of the whole device: what else ran on it meanwhile is in its figure.
Sources: nvmlDeviceGetTotalEnergyConsumption (mJ since the driver was loaded); Documentation/power/powercap of Linux.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

RAPL = Path("/sys/class/powercap")
Counter = Callable[[], int]  #: micro- or millijoules since some moment


class EnergyMeter:
    """Adds up what counters advance by. One that came to its end and began again at 0 had advanced to `span`."""

    def __init__(self, counters: Sequence[tuple[Counter, int]], unit_j: float) -> None:
        self._counters, self._unit_j = [(read, span, read()) for read, span in counters], unit_j
        self._used = 0

    def joules(self) -> float:
        """Joules since this meter was made."""
        counters, self._counters = self._counters, []
        for read, span, before in counters:
            now = read()
            self._used += now - before if now >= before else now + span - before
            self._counters.append((read, span, now))
        return self._used * self._unit_j


def open_meter(gpus: Sequence[str], rapl: Path = RAPL) -> EnergyMeter | None:
    """A meter of these GPUs, by UUID, or of the processors where there are none; None where the device has no counter."""
    return _gpu_meter(gpus) if gpus else _processor_meter(rapl)


def _gpu_meter(uuids: Sequence[str]) -> EnergyMeter | None:
    try:
        import pynvml
    except ImportError:
        return None
    with suppress(pynvml.NVMLError):  # a part of a GPU (MIG) and old ones have no counter
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids]
        counters = [partial(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle) for handle in handles]
        return EnergyMeter([(counter, 0) for counter in counters], unit_j=1e-3)
    return None


def _processor_meter(rapl: Path) -> EnergyMeter | None:
    """Of the processors' packages. Their counters are root's alone since Linux 5.10."""
    zones = [zone for zone in rapl.glob("intel-rapl:*") if _text(zone / "name").startswith("package")]
    with suppress(OSError, ValueError):
        counters = [(partial(_number, zone / "energy_uj"), _number(zone / "max_energy_range_uj")) for zone in zones]
        return EnergyMeter(counters, unit_j=1e-6) if counters else None
    return None


def _number(path: Path) -> int:
    return int(_text(path))


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii").strip()
