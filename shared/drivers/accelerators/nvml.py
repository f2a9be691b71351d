"""NVIDIA devices, read through NVML. MIG and every other setting stays as it is."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, cast

from shared.drivers.accelerators.port import AcceleratorError

Answer = TypeVar("Answer")


class Nvml(Protocol):
    """The part of the module `pynvml` (distribution nvidia-ml-py) that is used here."""

    NVMLError: type[Exception]

    def nvmlInit(self) -> None: ...
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...
    def nvmlDeviceGetName(self, handle: Any) -> str: ...
    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any: ...
    def nvmlDeviceGetComputeRunningProcesses(self, handle: Any) -> Sequence[Any]: ...


def load_nvml() -> Nvml:
    """The installed `pynvml`. Raises AcceleratorError where it is missing."""
    try:
        return cast("Nvml", importlib.import_module("pynvml"))
    except ImportError:
        raise AcceleratorError("NVIDIA devices need the package nvidia-ml-py: install it, or use the CPU") from None


class NvmlAccelerator:
    """The devices with these indices, as NVML numbers them. NVML may see processes of other containers and users."""

    def __init__(self, devices: Sequence[int], nvml: Nvml) -> None:
        self._nvml = nvml
        self._devices = tuple(devices)
        _asked(nvml, self._devices, nvml.nvmlInit)
        names = self._each(nvml.nvmlDeviceGetName)
        self.description = ", ".join(f"{index}: {name}" for index, name in zip(self._devices, names, strict=True))

    async def used_bytes(self) -> int:
        return sum(memory.used for memory in await asyncio.to_thread(self._each, self._nvml.nvmlDeviceGetMemoryInfo))

    def smallest_bytes(self) -> int:
        """All memory of the device with least, used or not. Raises AcceleratorError. Blocks for milliseconds."""
        return min(int(memory.total) for memory in self._each(self._nvml.nvmlDeviceGetMemoryInfo))

    async def processes(self) -> tuple[int, ...]:
        running = await asyncio.to_thread(self._each, self._nvml.nvmlDeviceGetComputeRunningProcesses)
        return tuple(sorted({process.pid for device in running for process in device}))

    def _each(self, ask: Callable[[Any], Answer]) -> list[Answer]:
        def ask_all() -> list[Answer]:
            return [ask(self._nvml.nvmlDeviceGetHandleByIndex(index)) for index in self._devices]

        return _asked(self._nvml, self._devices, ask_all)


def _asked(nvml: Nvml, devices: tuple[int, ...], ask: Callable[[], Answer]) -> Answer:
    try:
        return ask()
    except nvml.NVMLError as error:
        raise AcceleratorError(
            f"NVIDIA devices {devices}: {error}; compare the indices with `nvidia-smi -L`"
        ) from error
