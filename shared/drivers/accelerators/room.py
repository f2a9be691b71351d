"""How much memory a training may take on this machine, known before the anvil is taken."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from shared.config.tables import TrainingTable
from shared.drivers.accelerators.nvml import NvmlAccelerator, load_nvml
from shared.drivers.accelerators.port import AcceleratorError

if TYPE_CHECKING:
    from shared.config.model import Configuration


def get_room(configuration: Configuration) -> tuple[int | None, bool]:
    """Bytes of the smallest device of the training anvil, or of the process on a CPU, and whether it is a GPU.

    None where the devices cannot be read from here. Blocks for milliseconds.
    """
    anvil = configuration.anvils[configuration.forge]
    if anvil.accelerator == "cpu":
        return min(
            configuration.section(TrainingTable).memory, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        ), False
    try:
        return NvmlAccelerator(anvil.devices, load_nvml()).smallest_bytes(), True
    except AcceleratorError:
        return None, True
