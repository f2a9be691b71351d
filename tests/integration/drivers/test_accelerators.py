"""What is said of device memory: the processor's from real processes, NVIDIA's from a hand-written NVML."""

from __future__ import annotations

import asyncio
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from shared.drivers.accelerators.cpu import CpuAccelerator
from shared.drivers.accelerators.nvml import NvmlAccelerator
from shared.drivers.accelerators.port import AcceleratorError
from shared.drivers.containers.port import ContainerSpec
from shared.drivers.containers.process import ProcessContainers

MEBIBYTE = 1 << 20
GROW = f"held = b'x' * {80 * MEBIBYTE}; open('grown', 'w').close(); import time; time.sleep(600)"


@pytest.mark.asyncio
async def test_the_processor_holds_what_the_rune_holds_until_it_is_gone(tmp_path: Path) -> None:
    containers = ProcessContainers(tmp_path / "containers")
    cpu = CpuAccelerator(partial(containers.memory_bytes, "rune"))
    assert await cpu.used_bytes() == 0
    await containers.start(ContainerSpec(name="rune", command=(sys.executable, "-I", "-S", "-c", GROW), cwd=tmp_path))
    deadline = time.monotonic() + 30
    while not (tmp_path / "grown").exists():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    held = await cpu.used_bytes()
    await containers.kill("rune")
    assert 80 * MEBIBYTE < held < 130 * MEBIBYTE
    assert await cpu.used_bytes() == 0


class FakeNvmlError(Exception):
    pass


class FakeNvml:
    """Two devices; a handle is the device's index."""

    NVMLError: type[Exception] = FakeNvmlError

    def __init__(self) -> None:
        self.ready = False
        self.used = {0: 3 * MEBIBYTE, 1: 5 * MEBIBYTE}
        self.pids = {0: [70, 40], 1: [40]}

    def nvmlInit(self) -> None:
        self.ready = True

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if not self.ready or index not in self.used:
            raise FakeNvmlError("Invalid Argument")
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:
        return f"Device {handle}"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(used=self.used[handle])

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid) for pid in self.pids[handle]]


@pytest.mark.asyncio
async def test_nvidia_devices_are_added_up_and_processes_named_once() -> None:
    nvml = FakeNvml()
    both = NvmlAccelerator((0, 1), nvml)
    assert both.description == "0: Device 0, 1: Device 1"
    assert await both.used_bytes() == 8 * MEBIBYTE
    assert await both.processes() == (40, 70)


@pytest.mark.asyncio
async def test_only_the_devices_of_the_anvil_count() -> None:
    second = NvmlAccelerator((1,), FakeNvml())
    assert await second.used_bytes() == 5 * MEBIBYTE
    assert await second.processes() == (40,)


@pytest.mark.asyncio
async def test_a_device_that_does_not_answer_is_an_error_and_not_free() -> None:
    nvml = FakeNvml()
    with pytest.raises(AcceleratorError, match="nvidia-smi"):
        NvmlAccelerator((7,), nvml)
    anvil = NvmlAccelerator((0,), nvml)
    del nvml.used[0]
    with pytest.raises(AcceleratorError, match="Invalid Argument"):
        await anvil.used_bytes()
