"""Keeps freed memory in the process. glibc gives each large tensor back to the kernel and takes it again a moment later:
on CPU that cost a third of a run's processor time.
"""

from __future__ import annotations

import ctypes

# malloc.h: numbers of mallopt's parameters.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
PARAMETERS = {MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 2**28}


def keep_freed_memory() -> bool:
    """Tell the C library; false where it is not glibc and knows no such parameters."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(name, value) == 1 for name, value in PARAMETERS.items())
