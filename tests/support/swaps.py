"""Ways to swap what a job binds for something outside the roots, each of which can be undone."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

AT_FDCWD, RENAME_EXCHANGE = -100, 2


class Scene:
    """A folder and a file in the Lab that a job may use, and the same names outside, which it must never reach."""

    def __init__(self, lab: Path, outside: Path) -> None:
        self.parent, self.outside = lab / uuid4().hex[:8], outside / uuid4().hex[:8]
        for top in (self.parent, self.outside):
            (top / "x").mkdir(parents=True)
            (top / "x").chmod(0o777)
        for file in (self.parent / "file", self.outside / "file", self.outside / "x" / "secret"):
            file.write_text("sealed\n" if file.is_relative_to(self.outside) else "given\n")
            file.chmod(0o666)
        self.before = self.seen()

    def seen(self) -> dict[str, str]:
        return {str(path): path.read_text() for path in self.outside.rglob("*") if path.is_file()}


Undo = Callable[[], None]
Swap = Callable[[Scene], Undo]


def replaced(name: str, by: Callable[[Scene, Path], None]) -> Swap:
    """What is at `name`, "" for the parent, is moved aside, and something else takes its place."""

    def swap(scene: Scene) -> Undo:
        path = scene.parent / name if name else scene.parent
        aside = path.with_name(f"{path.name}-aside")
        path.rename(aside)
        by(scene, path)

        def back() -> None:
            path.unlink()
            aside.rename(path)

        return back

    return swap


def exchanged(scene: Scene) -> Undo:
    """Folder and link change places at once."""
    link = scene.parent / "link"
    link.symlink_to(scene.outside / "x")

    def change() -> None:
        names = os.fsencode(scene.parent / "x"), os.fsencode(link)
        assert ctypes.CDLL(None).renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0

    change()
    return change


def recreated(scene: Scene) -> Undo:
    (scene.parent / "x").rmdir()
    (scene.parent / "x").symlink_to(scene.outside / "x")

    def back() -> None:
        (scene.parent / "x").unlink()
        (scene.parent / "x").mkdir(mode=0o777)

    return back


def through_proc(scene: Scene, path: Path) -> None:
    path.symlink_to(f"/proc/{os.getpid()}/root{scene.outside}/x")


def relative(scene: Scene, path: Path) -> None:
    path.symlink_to(os.path.relpath(scene.outside / "x", path.parent))


def by_two_links(scene: Scene, path: Path) -> None:
    path.with_name("second").symlink_to(scene.outside / "x")
    path.symlink_to("second")


REMOVED = "a folder removed and made again as a link"
#: The part of the scene that is bound, and the swap.
SWAPS: dict[str, tuple[str, Swap]] = {
    "a folder by a link": ("x", replaced("x", lambda scene, path: path.symlink_to(scene.outside / "x"))),
    "a folder by a relative link": ("x", replaced("x", relative)),
    "a folder by two links": ("x", replaced("x", by_two_links)),
    "a folder by a link through proc": ("x", replaced("x", through_proc)),
    "a folder and a link exchanged": ("x", exchanged),
    REMOVED: ("x", recreated),
    "the parent by a link": ("x", replaced("", lambda scene, path: path.symlink_to(scene.outside))),
    "a folder by a file of another name": ("x", replaced("x", lambda scene, path: os.link(scene.outside / "file", path))),
    "a file by a link": ("file", replaced("file", lambda scene, path: path.symlink_to(scene.outside / "file"))),
    "a file by a link to a folder": ("file", replaced("file", lambda scene, path: path.symlink_to(scene.outside / "x"))),
    "a file by another name": ("file", replaced("file", lambda scene, path: os.link(scene.outside / "file", path))),
}  # fmt: skip
