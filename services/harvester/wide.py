"""Connections for statements that look at all of a persona's karma."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.storage.postgres import open_pool

if TYPE_CHECKING:
    from shared.storage.postgres import Pool

CONNECTIONS = 3
LIMIT_S = 3600  # a statement over millions of records may take minutes on a small machine
# Compiling such statements takes longer than it saves, and tables that only this session sees should not go through
# the disk.
WIDE = {"jit": "off", "work_mem": "128MB", "temp_buffers": "128MB"}


async def open_wide_pool(url: str) -> Pool:
    """A small pool of them. Raises UNREACHABLE errors."""
    return await open_pool(url, "harvester", CONNECTIONS, LIMIT_S, WIDE)
