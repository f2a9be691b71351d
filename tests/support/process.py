"""What tests see of a process, independently of the code that starts and ends it."""

from __future__ import annotations

import psutil


def is_running(pid: int) -> bool:
    """Whether it runs; a zombie does not, nor does one that disappears while it is looked at."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
