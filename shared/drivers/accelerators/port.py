"""The accelerator port: the proof that device memory is free before it is given to somebody else."""

from __future__ import annotations

from typing import Protocol


class AcceleratorError(Exception):
    """A device could not be asked; the message says which and what to do. Unknown memory is never free memory."""


class Accelerator(Protocol):
    """The devices of one anvil. Reads only: no setting of a device is ever changed."""

    @property
    def description(self) -> str:
        """What the devices are, for people."""
        ...

    async def used_bytes(self) -> int:
        """Memory in use now, over all devices. Raises AcceleratorError."""
        ...

    async def processes(self) -> tuple[int, ...]:
        """Processes that compute on the devices now, by their ids on the host. Raises AcceleratorError."""
        ...
