"""Commands run as another account: an ordinary one, or one that gets no namespaces."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.payloads import INTERPRETER

ORDINARY = 54321
# Root's home is closed to the account, and so is a Python or a checkout in it: they alone are shown, to this command.
OPEN_UP = """
closed=$1; shift
keep=$(mktemp -d)
if [ -n "$closed" ]; then
  mount --rbind "$closed" "$keep"
  mount -t tmpfs -o mode=755 tmpfs "$closed"
  while [ "$1" != -- ]; do mkdir -p "$closed/$1"; mount --rbind "$keep/$1" "$closed/$1"; shift; done
fi
shift
exec setpriv --reuid=%(id)s --regid=%(id)s --clear-groups "$@"
""" % {"id": ORDINARY}  # noqa: UP031 # the shell has braces of its own
DENY = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'


def as_ordinary(command: list[str]) -> list[str]:
    """The command as an ordinary account: as this one, where it is not root."""
    if os.getuid() != 0:
        return command
    needed = [Path.cwd(), *(mount.path.resolve() for mount in INTERPRETER)]
    closed = {above for path in needed for above in path.parents if not above.stat().st_mode & 0o001}
    top = min(closed, default=None, key=lambda path: len(path.parts))
    kept = [str(path.relative_to(top)) for path in needed if top and path.is_relative_to(top)]
    return ["unshare", "--mount", "sh", "-ec", OPEN_UP, "sh", str(top or ""), *kept, "--", *command]


def as_denied(command: list[str]) -> list[str]:
    """The command where the system grants no further user namespace."""
    return ["unshare", "--user", "--map-root-user", "sh", "-ec", DENY, "sh", *command]


@contextmanager
def shared_folder() -> Iterator[Path]:
    """A temporary folder that every account can reach and write to; pytest's are closed."""
    folder = Path(tempfile.mkdtemp(prefix="soulforge-"))
    folder.chmod(0o777)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
