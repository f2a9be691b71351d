"""The file system of an isolated container: covers and bind mounts, from the outside in.

The most specific path wins: a mount below a hidden path is visible, a hidden path below a mount is not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from shared.contracts.frozen import Frozen
from shared.drivers.containers.kernel import MountAttr, mount_attributes, mount_bind, mount_new
from shared.drivers.containers.port import ContainerSpec, Mount

# Replaced by empty directories: temporary files, the sockets of the system's daemons, shared memory.
SCRATCH = (Path("/tmp"), Path("/run"), Path("/dev/shm"))
SAFE = MountAttr.NO_SUID | MountAttr.NO_DEV
NULL = Path("/dev/null")
DEV = Path("/dev")
# A payload that is root outside owns the disks' nodes: with them it could read and write around every cover.
NODES = ("null", "zero", "full", "random", "urandom", "tty", "nvidia*", "kfd", "dri", "dxg")
LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}


class Cover(Frozen):
    """An empty tmpfs over a directory."""

    path: Path
    writable: bool


class Devices(Frozen):
    """The reduced /dev."""

    path: Path = DEV


Layer = Cover | Devices | Mount


def _layers(mounts: Iterable[Mount], hidden: Iterable[Path]) -> list[Layer]:
    """Order covers and mounts as they must be laid on each other."""
    bound = {mount.path: mount for mount in mounts}
    covered = {path: Cover(path=path, writable=False) for path in hidden}
    scratch = {path: Cover(path=path, writable=True) for path in SCRATCH}
    chosen: dict[Path, Layer] = {DEV: Devices(), **scratch, **covered, **bound}
    return sorted(chosen.values(), key=lambda layer: (len(layer.path.parts), layer.path))


def mount_all(spec: ContainerSpec) -> None:
    """Make all mounts in the mount namespace of this process. Raises OSError; writes only into its own tmpfs."""
    # Sources are opened before anything covers them; /proc/self/fd reaches them afterwards.
    sources = {mount.path: os.open(mount.path, os.O_PATH) for mount in spec.mounts}
    # This holds for /proc too: without a capability, root may still write to /proc/sys.
    mount_attributes(Path("/"), MountAttr.READ_ONLY, MountAttr.NONE, recursive=True)
    laid = [layer for layer in _layers(spec.mounts, spec.hidden) if _lay(layer, sources, spec.memory_bytes)]
    for layer in laid:
        # Only now: the mount points of deeper mounts had to be made in them. A write into a hidden place is an error.
        if isinstance(layer, Cover) and not layer.writable:
            mount_attributes(layer.path, MountAttr.READ_ONLY, MountAttr.NONE, recursive=False)
    for source in sources.values():
        os.close(source)


def _lay(layer: Layer, sources: dict[Path, int], memory_bytes: int | None) -> bool:
    """Lay one cover or mount; False where there is nothing to cover."""
    if isinstance(layer, Mount):
        _bind(layer, sources[layer.path])
    elif isinstance(layer, Devices):
        _lay_devices()
    elif layer.path.is_dir():
        mount_new("tmpfs", layer.path, f"mode=1777,size={memory_bytes}" if memory_bytes else "mode=1777")
    elif layer.path.exists():
        mount_bind(NULL, layer.path)
    return layer.path.exists()


def _bind(mount: Mount, source: int) -> None:
    origin = Path(f"/proc/self/fd/{source}")
    if not mount.path.exists():
        _make_point(origin, mount.path)
    mount_bind(origin, mount.path)
    if mount.read_only:
        mount_attributes(mount.path, SAFE | MountAttr.READ_ONLY, MountAttr.NONE, recursive=True)
    else:
        mount_attributes(mount.path, SAFE, MountAttr.READ_ONLY, recursive=False)


def _make_point(origin: Path, target: Path) -> None:
    if origin.is_dir():
        target.mkdir(parents=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()


def _lay_devices() -> None:
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
