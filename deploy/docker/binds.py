"""Binds that cannot be swapped: what was checked is what the engine mounts.

An engine resolves the path of a bind whenever it starts the container, long after a check. So it never gets the path of a
client, but one below a directory of the proxy's user. There the opened source is mounted while a container is created or
started, and at no other time. The container keeps its own mount of it.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from deploy.docker.rules import RefusedError

MS_NOSUID, MS_NODEV, MS_BIND = 2, 4, 4096  # mount(2)
MNT_DETACH = 2  # umount2(2)
_libc = ctypes.CDLL(None, use_errno=True)


class MountError(Exception):
    """The proxy cannot mount; the message says where and what to do."""


class Binds:
    """The sources of binds, each below `directory`/<name of the container>."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def prepare(self) -> None:
        """Make the directory, and prove that this process can mount there. Raises MountError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self._directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise MountError(f"{self._directory} is not this user's alone: remove it, or name another with --binds")
        try:
            with self.mounted(".probe", {}):
                pass
        except OSError as error:
            raise MountError(
                f"the proxy cannot mount in {self._directory} ({error.strerror}): run it as root; for a rootless engine, inside "
                "its namespaces (podman unshare, or nsenter -U --preserve-credentials -m -t <pid of dockerd>)"
            ) from error

    def source(self, name: str, place: int) -> str:
        """The path that the engine gets for the bind at this place of a container."""
        return str(self._directory / name / str(place))

    def place(self, name: str, source: str) -> int | None:
        """The place whose source this is, or None."""
        last = source.rpartition("/")[2]
        return int(last) if last.isdecimal() and source == self.source(name, int(last)) else None

    @contextmanager
    def mounted(self, name: str, paths: Mapping[int, str]) -> Iterator[None]:
        """Mount each path at its place while this is open. Raises RefusedError for a path that is not plain, and OSError."""
        folder = self._directory / name
        with ExitStack() as held:
            sources = {place: held.enter_context(opened(path)) for place, path in paths.items()}
            _clear(folder)
            folder.mkdir(mode=0o700)
            held.callback(_clear, folder)
            # An engine in another mount namespace finds no source at all, instead of an empty directory.
            _mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700,size=1m")
            for place, source in sources.items():
                target = folder / str(place)
                if stat.S_ISDIR(os.fstat(source).st_mode):
                    target.mkdir()
                else:
                    target.touch()
                _mount(f"/proc/self/fd/{source}", target, None, MS_BIND, None)
            yield


@contextmanager
def opened(path: str) -> Iterator[int]:
    """Hold the directory or file at a path without a link on the way. Raises RefusedError."""
    if os.path.normpath(path) != path or not path.startswith("/") or path.startswith("//") or not path.isprintable():
        raise RefusedError(f"{path!r} is not a plain absolute path")
    held = _walk(path)
    try:
        _check_kind(path, os.fstat(held))
        yield held
    finally:
        os.close(held)


def _walk(path: str) -> int:
    held = os.open("/", os.O_PATH)
    for part in Path(path).parts[1:]:
        try:
            # Of a link this opens the link itself, below which the next step finds nothing.
            inner = os.open(part, os.O_PATH | os.O_NOFOLLOW, dir_fd=held)
        except OSError as error:
            raise RefusedError(f"{path} cannot be opened, links not followed: {error.strerror}") from error
        finally:
            os.close(held)
        held = inner
    return held


def _check_kind(path: str, found: os.stat_result) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise RefusedError(f"{path} is a link")
    if not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)):
        raise RefusedError(f"{path} is neither a directory nor a file")
    # A second name may be that of a file outside the roots.
    if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
        raise RefusedError(f"{path} has another name: copy it instead of linking it")


def _clear(folder: Path) -> None:
    """Unmount and remove what is at `folder`, also what a killed proxy left. Nothing below a mount is touched."""
    while folder.is_mount():
        _check(_libc.umount2(os.fsencode(folder), MNT_DETACH), folder)
    if folder.exists():
        folder.rmdir()


def _mount(source: str, target: Path, kind: str | None, flags: int, options: str | None) -> None:
    text = [None if word is None else word.encode() for word in (source, kind, options)]
    _check(_libc.mount(text[0], os.fsencode(target), text[1], ctypes.c_ulong(flags), text[2]), target)


def _check(result: int, target: Path) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))
