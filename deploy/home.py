"""The home as a folder that is Soulforge's: claimed once while it is empty, so that everything in it was made by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.storage.artifacts import sync

if TYPE_CHECKING:
    from pathlib import Path

MARK = ".soulforge-home"
# What an owner may put there first, and what a file system puts there.
ALLOWED = ("soulforge.toml", "models", "lost+found")
SHOWN = 3


class HomeError(Exception):
    """The folder cannot be a home; the message names what is in it and what to do."""


def is_claimed(home: Path) -> bool:
    return (home / MARK).is_file()


def claim(home: Path) -> None:
    """Make the home, or check that it is one. Raises HomeError for a folder with files that Soulforge did not make."""
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
