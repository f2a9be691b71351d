"""The account of jobs where Soulforge is started by root: one that owns nothing outside its sandbox.

Files of root that a job may see belong to this account there, and what it writes belongs to root outside: its mounts
map the owner (mount_setattr(2), MOUNT_ATTR_IDMAP), as Kubernetes does for pods with a user namespace.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from shared.drivers.containers.kernel import (
    attach,
    enter_private_mounts,
    map_owner,
    mount_tmpfs,
    open_owner_map,
    open_tree,
)
from shared.drivers.containers.port import Mount

ACCOUNT = 61000  # user and group; Debian and systemd give this number to no one
ROOT = 0
EVERYONE = ["0", "0", "4294967295"]
# In a mount namespace of its own: the account can reach what is mounted there, wherever it lies outside.
STAGE = Path("/tmp")


class OwnersError(OSError):
    """The file system of a mount cannot map the owners of its files."""


def as_job_account() -> bool:
    """Whether jobs run as another user: true for root, but not for the root of a user namespace, who is an ordinary user."""
    return os.getuid() == ROOT and Path("/proc/self/uid_map").read_text().split() == EVERYONE


def enter_account(program: str, mounts: Iterable[Mount], nodes: Iterable[Path]) -> tuple[str, dict[Path, Path]]:
    """Become the account. Return where it finds the program and the mounts' paths, with the files of root as its own.

    It may use the device `nodes` that have a group. Raises OSError.
    """
    owners = open_owner_map(ROOT, ACCOUNT)
    folder = Path(program).parents[2]  # of the wheel: its libraries lie beside the folder of the program
    tools = () if folder == Path("/") else (Mount(path=folder),)
    trees = {mount.path: _open(mount, owners) for mount in (*mounts, *tools)}
    folders = {path: path.is_dir() for path in trees}
    groups = sorted({node.stat().st_gid for node in nodes} - {ROOT})
    enter_private_mounts()
    mount_tmpfs(STAGE)
    staged = {
        path: _attach(tree, folders[path], STAGE / str(place)) for place, (path, tree) in enumerate(trees.items())
    }
    os.setgroups(groups)
    os.setresgid(ACCOUNT, ACCOUNT, ACCOUNT)
    os.setresuid(ACCOUNT, ACCOUNT, ACCOUNT)
    return str(staged.get(folder, folder) / Path(program).relative_to(folder)), staged


def _open(mount: Mount, owners: int) -> int:
    tree = open_tree(mount.path)
    try:
        map_owner(tree, owners)
    except OSError as error:
        # What it only reads may be readable for everyone.
        if error.errno != errno.EINVAL or not mount.read_only:
            raise OwnersError(
                error.errno,
                f"the file system of {mount.path} cannot map owners ({error.strerror}): start Soulforge as an ordinary "
                "account, or put its home on ext4, xfs or btrfs",
            ) from error
    return tree


def _attach(tree: int, is_folder: bool, place: Path) -> Path:
    if is_folder:
        place.mkdir()
    else:
        place.touch()
    attach(tree, place)
    os.close(tree)
    return place
