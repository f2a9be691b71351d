"""The accelerator port: proves that device memory is free before the device is handed over."""

from __future__ import annotations

from typing import Protocol


class AcceleratorError(Exception):
    """A device could not be read; the message names it and what to do. Unknown memory is never free memory."""


class Accelerator(Protocol):
    """The devices of one anvil. Reads only: no setting of a device is ever changed."""

    @property
    def description(self) -> str:
        """The devices, described for people."""
        ...

    async def used_bytes(self) -> int:
        """Memory in use now, over all devices. Raises AcceleratorError."""
        ...

    async def processes(self) -> tuple[int, ...]:
        """Processes that compute on the devices now, by their ids on the host. Raises AcceleratorError."""
        ...
