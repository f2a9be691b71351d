"""The proxy before the engine's socket: the services use its socket instead of the engine's. See docs/adr/0020.

`python -m deploy.docker.proxy --help`. It runs where the engine does, as its user, and forwards what rules.py allows.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import socket
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import structlog
import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deploy.docker.binds import Binds, MountError
from deploy.docker.limits import GIB, Limits, check_ours, check_started, new_container
from deploy.docker.rules import AllowedCall, RefusedError, Scope, allow, list_query
from shared.drivers.containers.docker_template import NULL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from typing import Any

    from starlette.requests import Request

log = structlog.get_logger()
TIMEOUT_S = 60.0
MOST_BYTES = 1 << 16
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"]


class ListenError(Exception):
    """The path cannot be listened on; the message names it and what to do."""


class Proxy:
    """Forwards allowed calls to one engine, within one set of limits."""

    def __init__(self, engine: Path, limits: Limits, binds: Binds) -> None:
        self._limits = limits
        self._binds = binds
        self._mounting = asyncio.Lock()
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(engine), verify=False),  # a Unix socket has no certificates
            base_url="http://engine",
            timeout=TIMEOUT_S,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def answer(self, request: Request) -> Response:
        try:
            return await self._pass(request)
        except RefusedError as refusal:
            log.warning("refused", method=request.method, path=request.url.path, reason=str(refusal))
            return _reply(403, f"the proxy refuses: {refusal}")
        except OSError as error:
            log.exception("binds cannot be mounted")
            return _reply(500, f"the proxy cannot mount the binds of the container: {error}; see its log")
        except httpx.HTTPError as error:
            log.warning("engine does not answer", error=repr(error))
            return _reply(
                503, "the container engine behind the proxy does not answer: start it (systemctl start docker)"
            )

    async def _pass(self, request: Request) -> Response:
        asked = allow(request.method, request.url.path, dict(request.query_params))
        match asked.scope:
            case Scope.CREATE:
                return await self._create(asked, await _body(request))
            case Scope.LIST:
                query = list_query(self._limits.installation)
                return await self._forward(request.method, asked, "/containers/json", query)
            case Scope.ENGINE:
                return await self._forward(request.method, asked, f"/{asked.action}")
            case Scope.OURS | Scope.START | Scope.REMOVE:
                return await self._on_container(request.method, asked)

    async def _create(self, asked: AllowedCall, raw: bytes) -> Response:
        name = asked.query["name"]
        body = new_container(name, raw, self._limits)
        await self._check_root()
        given = body.host_config.mounts
        paths = {place: bind.target for place, bind in enumerate(given) if bind.source != NULL}
        mounts = tuple(
            bind.model_copy(update={"source": self._binds.source(name, place)}) if place in paths else bind
            for place, bind in enumerate(given)
        )
        bound = body.model_copy(update={"host_config": body.host_config.model_copy(update={"mounts": mounts})})
        async with self._mounting:
            with self._binds.mounted(name, paths):
                return await self._forward("POST", asked, "/containers/create", asked.query, bound.request())

    async def _on_container(self, method: str, asked: AllowedCall) -> Response:
        found = await self._client.get(f"{asked.version}/containers/{asked.container}/json")
        if not found.is_success:
            return _relay(found)
        inspected = found.json()
        check_ours(inspected["Config"]["Labels"] or {}, asked.scope, self._limits)
        # By its id: the name may belong to another container meanwhile.
        action = f"/{asked.action}" if asked.action else ""
        path = f"/containers/{inspected['Id']}{action}"
        if asked.scope is not Scope.START:
            return await self._forward(method, asked, path, asked.query)
        return await self._start(asked, path, inspected)

    async def _start(self, asked: AllowedCall, path: str, inspected: dict[str, Any]) -> Response:
        """Start a container with its binds opened again: since it was created, their paths may have changed."""
        check_started(inspected, self._limits)
        await self._check_root()
        name = inspected["Name"].removeprefix("/")
        async with self._mounting:
            with self._binds.mounted(name, self._bound(name, inspected["Mounts"])):
                return await self._forward("POST", asked, path)

    def _bound(self, name: str, mounts: list[dict[str, Any]]) -> dict[int, str]:
        """The paths that a container binds, by their places."""
        found: dict[int, str] = {}
        for mount in mounts:
            if mount["Source"] == NULL:
                continue
            place = self._binds.place(name, mount["Source"])
            if place is None:
                raise RefusedError(f"{mount['Source']} is bound by its path: create the container through the proxy")
            found[place] = mount["Destination"]
        return found

    async def _check_root(self) -> None:
        """Root inside is the engine's own user outside only where the engine, asked by the proxy itself, is rootless."""
        if not self._limits.root or self._limits.runes:
            return
        info = (await self._client.get("/info")).raise_for_status().json()
        if "name=rootless" not in (info.get("SecurityOptions") or ()):
            raise RefusedError(f"jobs do not run as {self._limits.user}: the engine is not rootless")

    async def _forward(
        self, method: str, asked: AllowedCall, path: str, query: dict[str, str] | None = None, body: object = None
    ) -> Response:
        return _relay(await self._client.request(method, asked.version + path, params=query, json=body))


def application(engine: Path, limits: Limits, binds: Binds) -> Starlette:
    proxy = Proxy(engine, limits, binds)

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        yield
        await proxy.close()

    return Starlette(routes=[Route("/{path:path}", proxy.answer, methods=METHODS)], lifespan=life)


async def serve(listen: Path, engine: Path, limits: Limits, binds: Binds, group: str | None) -> None:
    """Serve until SIGTERM. The socket is for this user and `group` only."""
    binds.prepare()
    with listening(listen, group) as listener:
        config = uvicorn.Config(application(engine, limits, binds), log_level="warning", access_log=False)
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


async def _body(request: Request) -> bytes:
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MOST_BYTES:
            raise RefusedError(f"a body of more than {MOST_BYTES} bytes")
    return raw


def _relay(answer: httpx.Response) -> Response:
    kept = {name: answer.headers[name] for name in ("content-type", "api-version") if name in answer.headers}
    return Response(answer.content, answer.status_code, kept)


def _reply(status: int, message: str) -> Response:
    return JSONResponse({"message": message}, status)


def main() -> None:
    arguments = _parser().parse_args()
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
