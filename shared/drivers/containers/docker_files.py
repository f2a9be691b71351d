"""Files of a job whose user is not the service's: it may write its output, and read its inputs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from shared.drivers.containers.port import ContainerError, ContainerSpec

READ, SEARCH = 0o4, 0o5  # of others; those of the group are 3 bits higher


def give_files(spec: ContainerSpec, uid: int, gid: int) -> None:
    """Give the user the writable mounts, and its group the inputs from the hidden home. Only root can; blocks.

    Files from elsewhere are their owner's to change: raises ContainerError for one that the user may not read.
    """
    for mount in spec.mounts:
        if not mount.read_only:
            for path in _tree(mount.path, spec.hidden):
                os.chown(path, uid, gid, follow_symlinks=False)
        elif any(mount.path.is_relative_to(place) for place in spec.hidden):
            for path in _tree(mount.path, spec.hidden):
                _let_read(path, gid)
        elif not _readable(mount.path.stat(), uid, gid):
            raise ContainerError(
                f"a job cannot read {mount.path} as user {uid}:{gid}: chmod -R o+rX {mount.path}, "
                "or set job_user under [docker] in soulforge.toml to a user that may"
            )


def _let_read(path: Path, gid: int) -> None:
    found = path.lstat()
    if not stat.S_ISLNK(found.st_mode) and found.st_mode & _needed(found) != _needed(found):
        os.chown(path, -1, gid, follow_symlinks=False)
        path.chmod(stat.S_IMODE(found.st_mode) | _needed(found) << 3)


def _readable(found: os.stat_result, uid: int, gid: int) -> bool:
    shift = 6 if found.st_uid == uid else 3 if found.st_gid == gid else 0
    return found.st_mode >> shift & _needed(found) == _needed(found)


def _needed(found: os.stat_result) -> int:
    return SEARCH if stat.S_ISDIR(found.st_mode) else READ


def _tree(top: Path, hidden: tuple[Path, ...]) -> Iterator[Path]:
    """`top` and everything below it but what is hidden from the job; links are not followed."""
    yield top
    for folder, directories, files in os.walk(top):
        directories[:] = [name for name in directories if Path(folder, name) not in hidden]
        yield from (Path(folder, name) for name in (*directories, *files) if Path(folder, name) not in hidden)
