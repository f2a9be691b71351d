"""What a job must not do, tried from inside its sandbox.

An attempt returns when it succeeded. It was refused when it raises OSError or Refused, or when SIGSYS ends it; any other
exception is a fault of the attempt itself.
"""

from __future__ import annotations

from . import files, kernel, network, privileges, processes
from .attempt import Attempt

ATTEMPTS: tuple[Attempt, ...] = (
    *files.ATTEMPTS,
    *privileges.ATTEMPTS,
    *kernel.ATTEMPTS,
    *network.ATTEMPTS,
    *processes.ATTEMPTS,
)
