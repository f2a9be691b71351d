"""The proxy before the engine's socket: the services use its socket instead of the engine's. See docs/adr/0020.

`python -m deploy.docker.proxy --help`. It runs where the engine does, as its user, and forwards what rules.py allows.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from pydantic import ValidationError

from deploy.docker.binds import Binds, MountError
from deploy.docker.forward import application
from deploy.docker.limits import GIB, Limits
from shared.runtime.logs import configure_logging

if TYPE_CHECKING:
    from collections.abc import Iterator


class ListenError(Exception):
    """The path cannot be listened on; the message names it and what to do."""


async def serve(listen: Path, engine: Path, limits: Limits, binds: Binds, group: str | None) -> None:
    """Serve until SIGTERM. The socket is for this user and `group` only."""
    binds.prepare()
    with listening(listen, group) as listener:
        config = uvicorn.Config(
            application(engine, limits, binds), log_level="warning", log_config=None, access_log=False
        )
        await uvicorn.Server(config).serve(sockets=[listener])


@contextmanager
def listening(path: Path, group: str | None) -> Iterator[socket.socket]:
    """Bind a socket at `path`, in place of a stale one, and remove it at the end. Raises ListenError."""
    _remove_stale(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    before = os.umask(0o177)
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        if group:
            shutil.chown(path, group=group)
            path.chmod(0o660)
        try:
            yield listener
        finally:
            if path.is_socket():
                path.unlink()


def _remove_stale(path: Path) -> None:
    """Remove the socket that a killed proxy left behind; what is none, or answers, belongs to somebody else."""
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_socket():
        raise ListenError(f"{path} exists and is no socket: name another path with --listen")
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise ListenError(f"another program listens on {path}: end it, or name another path with --listen")


def main() -> None:
    arguments = _parser().parse_args()
    configure_logging("INFO", "docker-proxy")
    try:
        limits = Limits(
            installation=arguments.installation,
            images=frozenset(arguments.image),
            readable=tuple(root.resolve() for root in arguments.readable),
            writable=tuple(root.resolve() for root in arguments.writable),
            user=arguments.user,
            memory_bytes=arguments.memory_gib * GIB,
            nano_cpus=int(arguments.cpus * 1e9),
            devices=frozenset(arguments.device),
            runes=arguments.runes,
        )
        asyncio.run(serve(arguments.listen, arguments.engine, limits, Binds(arguments.binds), arguments.group))
    except ValidationError as error:
        raise SystemExit(f"--user {arguments.user}: give uid:gid in numbers ({error.errors()[0]['msg']})") from None
    except (ListenError, MountError) as error:
        raise SystemExit(str(error)) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.docker.proxy", description=__doc__)
    add = parser.add_argument
    several = "; may be repeated"
    add("--listen", type=Path, required=True, help="socket for the services")
    add("--group", help="group that may use the socket besides its owner")
    add("--engine", type=Path, default=Path("/var/run/docker.sock"), help="socket of the engine")
    add("--binds", type=Path, default=Path("/run/soulforge-binds"), help="directory in which binds are mounted")
    add("--installation", default="soulforge", help="name of the installation that owns the containers")
    add("--user", required=True, help="uid:gid of every job; root only with a rootless engine")
    add("--image", action="append", required=True, help="image of a job" + several)
    add("--readable", action="append", type=Path, default=[], help="directory below which a job may read" + several)
    add("--writable", action="append", type=Path, default=[], help="directory below which a job may write" + several)
    add("--device", action="append", default=[], help="index of a GPU that a job may have" + several)
    add("--memory-gib", type=int, default=64, help="most memory of a job (default 64)")
    add("--cpus", type=float, default=0, help="CPUs that a job may use (default all)")
    add("--runes", action="store_true", help="create and remove runes, and no jobs: for `soulforge runes create` only")
    return parser


if __name__ == "__main__":
    main()
