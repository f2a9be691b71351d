"""Stands for the NVIDIA library: one device, whose memory is what the small engine and its children hold in this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass

import psutil

MIB = 1024**2
UNUSED = 40 * MIB  # what an interpreter holds without any weights


class NVMLError(Exception):
    pass


@dataclass(frozen=True)
class Memory:
    used: int


@dataclass(frozen=True)
class Process:
    pid: int


def nvmlInit() -> None:
    return


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    return index


def nvmlDeviceGetName(handle: int) -> str:
    return "a device that is none"


def nvmlDeviceGetMemoryInfo(handle: int) -> Memory:
    return Memory(sum(max(process.memory_info().rss - UNUSED, 0) for process in _holders()))


def nvmlDeviceGetComputeRunningProcesses(handle: int) -> list[Process]:
    return [Process(process.pid) for process in _holders()]


def _holders() -> list[psutil.Process]:
    """Every process that was started with this house's file of faults in its environment, but this one."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get("FAKE_VLLM_FILE") == os.environ["FAKE_VLLM_FILE"]:
                found.append(process)
        except psutil.Error:
            continue
    return found
