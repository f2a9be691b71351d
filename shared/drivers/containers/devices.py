"""The /dev of an isolated container: harmless nodes and accelerators, no disk.

A payload that is root outside owns the disks' nodes: with them it could read and write around every cover.
"""

from __future__ import annotations

import os
from pathlib import Path

from shared.drivers.containers.kernel import MountAttr, mount_attributes, mount_bind, mount_new

DEV = Path("/dev")
NODES = ("null", "zero", "full", "random", "urandom", "tty", "nvidia*", "kfd", "dri", "dxg")
LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}


def lay_devices() -> None:
    """Cover /dev and bind the chosen nodes back, with room for shared memory. Raises OSError."""
    nodes = [node for pattern in NODES for node in sorted(DEV.glob(pattern))]
    sources = {node: os.open(node, os.O_PATH) for node in nodes}
    directories = {node for node in nodes if node.is_dir()}
    mount_new("tmpfs", DEV, "mode=755")
    for node, source in sources.items():
        if node in directories:
            node.mkdir()
        else:
            node.touch()
        mount_bind(Path(f"/proc/self/fd/{source}"), node)
        os.close(source)
    for name, target in LINKS.items():
        (DEV / name).symlink_to(target)
    (DEV / "shm").mkdir()
    mount_attributes(DEV, MountAttr.READ_ONLY, MountAttr.NONE, recursive=False)
