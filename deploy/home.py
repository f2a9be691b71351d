"""The home as a folder that is Soulforge's: claimed once while it is empty, so that everything in it was made by it.

It and all that is in it belongs to one account: karma, the answers of sealed holdouts, keys.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from shared.storage.artifacts import sync

MARK = ".soulforge-home"
# What an owner may put there first, and what a file system puts there.
ALLOWED = ("soulforge.toml", "models", "lost+found")
SHOWN = 3
GROUP, OTHERS = 0o070, 0o007  # the rights of the group, and of all other accounts
DEEPEST = 64  # levels below the home; what is deeper is behind folders that are closed


class HomeError(Exception):
    """The folder cannot be a home; the message names what is in it and what to do."""


def is_claimed(home: Path) -> bool:
    return (home / MARK).is_file()


def claim(home: Path) -> str | None:
    """Make the home, or check that it is one, and close it to other accounts. Returns a line where it was open to them.

    Raises HomeError for a folder with files that Soulforge did not make.
    """
    _mark(home)
    found = home.stat()
    own = Own(found.st_dev, frozenset((found.st_gid, os.getegid(), *os.getgroups())))
    if closed := _close(home.resolve(), own):
        return f"{home}: {closed} files and folders were open to other accounts of this machine, and are closed now"
    return None


def _mark(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
        # Listed before the mark is checked: what a service that starts at the same time makes, it makes after the mark.
        others = sorted(entry.name for entry in home.iterdir() if entry.name not in ALLOWED)
        if is_claimed(home):
            return
        if not others:
            (home / MARK).touch()
            sync(home)
            return
    except OSError as error:
        raise HomeError(
            f"{home} cannot be a home: {error.strerror}; set SOULFORGE_HOME to a folder that this user may write"
        ) from error
    more = ", …" if len(others) > SHOWN else ""
    raise HomeError(
        f"{home} holds files that Soulforge did not make ({', '.join(others[:SHOWN])}{more}), which it could overwrite: "
        f"set SOULFORGE_HOME to a new or empty folder; where it is a home restored from a backup, create {home / MARK}"
    )


class Own(NamedTuple):
    """The disk of the home, and the groups of its account. Another group's files were given to it, as to that of jobs."""

    device: int
    groups: frozenset[int]


def _close(entry: Path | str, own: Own, folder: int | None = None, levels: int = DEEPEST) -> int:
    """Take every right of own groups and other accounts on an entry and all below it; returns on how many.

    Every folder is held open on the way and no link is followed, so that a job that swaps one leads it nowhere else. What is
    on another disk, cannot be changed, or goes meanwhile is passed over.
    """
    try:
        held = os.open(entry, os.O_PATH | os.O_NOFOLLOW, dir_fd=folder)
    except OSError:
        return 0
    try:
        found, path = os.fstat(held), Path(f"/proc/self/fd/{held}")
        if stat.S_ISLNK(found.st_mode) or found.st_dev != own.device:
            return 0
        closed = 0
        with suppress(OSError):
            rights = GROUP | OTHERS if found.st_gid in own.groups else OTHERS
            if found.st_mode & rights:
                path.chmod(stat.S_IMODE(found.st_mode) & ~rights)
                closed = 1
            if stat.S_ISDIR(found.st_mode) and levels:
                closed += sum(_close(below.name, own, held, levels - 1) for below in path.iterdir())
        return closed
    finally:
        os.close(held)
