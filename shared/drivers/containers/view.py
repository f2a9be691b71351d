"""What an isolated container sees of the file system: covers and binds, from the outside in.

The most specific path wins: a mount below a hidden path is visible, a hidden path below a mount is not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from shared.contracts.frozen import Frozen
from shared.drivers.containers.devices import DEV, lay_devices
from shared.drivers.containers.kernel import MountAttr, mount_attributes, mount_bind, mount_new
from shared.drivers.containers.port import ContainerSpec, Mount

# Its own and empty: temporary files, the sockets of the system's daemons, shared memory.
SCRATCH = (Path("/tmp"), Path("/run"), Path("/dev/shm"))
SAFE = MountAttr.NO_SUID | MountAttr.NO_DEV
NULL = Path("/dev/null")


class Cover(Frozen):
    """An empty tmpfs over a directory."""

    path: Path
    writable: bool


class Devices(Frozen):
    """The reduced /dev."""

    path: Path = DEV


Step = Cover | Devices | Mount


def steps(mounts: Iterable[Mount], hidden: Iterable[Path]) -> list[Step]:
    """Covers and mounts in the order in which they must be laid on each other."""
    bound = {mount.path: mount for mount in mounts}
    covered = {path: Cover(path=path, writable=False) for path in hidden}
    scratch = {path: Cover(path=path, writable=True) for path in SCRATCH}
    chosen: dict[Path, Step] = {DEV: Devices(), **scratch, **covered, **bound}
    return sorted(chosen.values(), key=lambda step: (len(step.path.parts), step.path))


def arrange(spec: ContainerSpec) -> None:
    """Build the view in the mount namespace of this process. Raises OSError; writes only into its own tmpfs."""
    # Sources are opened before anything covers them; /proc/self/fd reaches them afterwards.
    sources = {mount.path: os.open(mount.path, os.O_PATH) for mount in spec.mounts}
    # This holds for /proc too: without a capability, root may still write to /proc/sys.
    mount_attributes(Path("/"), MountAttr.READ_ONLY, MountAttr.NONE, recursive=True)
    laid = [step for step in steps(spec.mounts, spec.hidden) if _lay(step, sources, spec.memory_bytes)]
    for step in laid:
        # Only now: the points of deeper mounts had to be made in them. A write into a hidden place fails loudly.
        if isinstance(step, Cover) and not step.writable:
            mount_attributes(step.path, MountAttr.READ_ONLY, MountAttr.NONE, recursive=False)
    for source in sources.values():
        os.close(source)


def _lay(step: Step, sources: dict[Path, int], memory_bytes: int | None) -> bool:
    """False where there is nothing to cover."""
    if isinstance(step, Mount):
        _bind(step, sources[step.path])
    elif isinstance(step, Devices):
        lay_devices()
    elif step.path.is_dir():
        mount_new("tmpfs", step.path, f"mode=1777,size={memory_bytes}" if memory_bytes else "mode=1777")
    elif step.path.exists():
        mount_bind(NULL, step.path)
    return step.path.exists()


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
