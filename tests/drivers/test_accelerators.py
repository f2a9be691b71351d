"""What is said of device memory: the processor's from real processes, NVIDIA's from a hand-written NVML."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from shared.drivers.accelerators.cpu import CpuAccelerator
from shared.drivers.accelerators.nvml import NvmlAccelerator
from shared.drivers.accelerators.port import AcceleratorError

MEBIBYTE = 1 << 20
# A parent that holds little and a child that holds much, and says so when it does.
FAMILY = """
import os, sys, time
if os.fork():
    os.wait()
held = b'x' * int(sys.argv[1])
print(os.getpid(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def family() -> Iterator[tuple[int, int]]:
    """The pids of a parent and of its child, which holds 80 MiB."""
    command = [sys.executable, "-I", "-S", "-c", FAMILY, str(80 * MEBIBYTE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as parent:
        assert parent.stdout is not None
        yield parent.pid, int(parent.stdout.readline())
        os.killpg(parent.pid, 9)


@pytest.mark.asyncio
async def test_the_processor_counts_the_whole_tree_of_each_root_once(family: tuple[int, int]) -> None:
    async def roots() -> tuple[int, ...]:
        return family

    cpu = CpuAccelerator(roots)
    assert 80 * MEBIBYTE < await cpu.used_bytes() < 130 * MEBIBYTE
    assert await cpu.processes() == tuple(sorted(family))


@pytest.mark.asyncio
async def test_the_processor_is_free_when_nothing_runs() -> None:
    async def roots() -> tuple[int, ...]:
        return (2**22 + 1,)

    cpu = CpuAccelerator(roots)
    assert await cpu.used_bytes() == 0
    assert await cpu.processes() == ()


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
