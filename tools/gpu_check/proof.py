"""Check the proof of an evacuation on real device memory, on a machine with an NVIDIA GPU: `python -m tools.gpu_check.proof`.

A container takes memory on the device, as a rune would; the proof must object. Then it is stopped; the proof must
succeed. Nothing else on the machine is touched: a device that is in use is refused before anything starts.
"""

from __future__ import annotations

import asyncio
import shlex
import tempfile
from pathlib import Path
from time import monotonic
from typing import Annotated

import typer

from services.orchestrator.handover.evacuate import UnprovenError, objections, proven_free
from shared.config.model import AnvilConfig
from shared.config.tables import JobsConfig
from shared.drivers.accelerators.nvml import NvmlAccelerator, load_nvml
from shared.drivers.accelerators.port import AcceleratorError
from shared.drivers.containers.port import ContainerSpec, ContainerState
from shared.drivers.containers.process import ProcessContainers

GIB = 1024**3
TAKEN_WITHIN_S = 180.0
GRACE_S = 10.0
NAME = "gpu-check"
HOLD = "import time, torch; held = torch.ones({gib} * 2**28, device='cuda:{device}'); torch.cuda.synchronize(); time.sleep(600)"


class CheckError(Exception):
    """The check failed; the message is the measurement."""


def main(
    devices: Annotated[str, typer.Option(help="NVML indices of the GPUs, separated by commas.")] = "0",
    gib: Annotated[int, typer.Option(min=1, help="GiB to take on the first of them.")] = 2,
    free_below_mib: Annotated[int, typer.Option(min=1, help="Used memory under which a device counts as free.")] = 1024,
    holder: Annotated[str, typer.Option(help="Command that takes the memory; default: torch.")] = "",
) -> None:
    """Check that occupied device memory is detected, and that it is free after the stop."""
    numbers = tuple(int(word) for word in devices.split(","))
    config = AnvilConfig(accelerator="nvml", devices=numbers, free_below=free_below_mib * 1024**2, free_within_s=30)
    try:
        asyncio.run(check(config, command(holder, gib, numbers[0]), gib * GIB))
    except (AcceleratorError, UnprovenError, CheckError) as error:
        typer.echo(f"gpu-check: {error}", err=True)
        raise typer.Exit(1) from None


def command(holder: str, gib: int, device: int) -> tuple[str, ...]:
    own = (str(JobsConfig().python), "-c", HOLD.format(gib=gib, device=device))
    return tuple(shlex.split(holder)) if holder else own


async def check(config: AnvilConfig, holder: tuple[str, ...], size: int) -> None:
    """Run the check. Raises CheckError or UnprovenError where the device behaves differently than evacuation expects."""
    accelerator = NvmlAccelerator(config.devices, load_nvml())
    before = await proven_free(accelerator, config, ())
    typer.echo(f"{accelerator.description}: {before / GIB:.2f} GiB in use, no process computes there")
    with tempfile.TemporaryDirectory(prefix="soulforge-gpu-check-") as folder:
        containers = ProcessContainers(Path(folder))
        await containers.start(
            ContainerSpec(name=NAME, command=holder, cwd=Path(folder), env={"PATH": "/usr/bin:/bin"})
        )
        try:
            await _wait_taken(containers, accelerator, before + size)
            found = await objections(accelerator, config, ())
            if len(found) != 2:
                raise CheckError(f"memory and a process were taken, and the proof objects to: {found or 'nothing'}")
            typer.echo(f"taken: {await accelerator.used_bytes() / GIB:.2f} GiB; the proof objects: {'; '.join(found)}")
        finally:
            began = monotonic()
            await containers.stop(NAME, GRACE_S)
        after = await proven_free(accelerator, config, ())
    typer.echo(f"free again {monotonic() - began:.1f} s after the stop began: {after / GIB:.2f} GiB in use")


async def _wait_taken(containers: ProcessContainers, accelerator: NvmlAccelerator, expected: int) -> None:
    deadline = monotonic() + TAKEN_WITHIN_S
    while await accelerator.used_bytes() < expected:
        info = await containers.inspect(NAME)
        if info is None or info.state is ContainerState.EXITED or monotonic() > deadline:
            raise CheckError(f"the memory was not taken: {await containers.logs(NAME, 5) or 'no output'}")
        await asyncio.sleep(0.25)


if __name__ == "__main__":
    typer.run(main)
