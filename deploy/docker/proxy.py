"""The proxy before the engine's socket: the services use its socket instead of the engine's. See docs/adr/0011.

`python -m deploy.docker.proxy --help`. It runs as a user with access to the engine and forwards what rules.py allows.
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
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deploy.docker.rules import AllowedCall, Limits, RefusedError, Scope, allow, check_ours, job, list_query
from shared.runtime.logs import configure_logging

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import Request

log = structlog.get_logger()
TIMEOUT_S = 60.0
MOST_BYTES = 1 << 20
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"]


class ListenError(Exception):
    """The path cannot be listened on; the message names it and what to do."""


class Proxy:
    """Forwards allowed calls to one engine, within one set of limits."""

    def __init__(self, engine: Path, limits: Limits) -> None:
        self._limits = limits
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(engine)), base_url="http://engine", timeout=TIMEOUT_S
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def answer(self, request: Request) -> Response:
        try:
            return await self._pass(request)
        except RefusedError as refusal:
            log.warning("refused", method=request.method, path=request.url.path, reason=str(refusal))
            return _reply(403, f"the proxy refuses: {refusal}")
        except httpx.HTTPError as error:
            log.warning("engine does not answer", error=repr(error))
            return _reply(
                503, "the container engine behind the proxy does not answer: start it (systemctl start docker)"
            )

    async def _pass(self, request: Request) -> Response:
        asked = allow(request.method, request.url.path, dict(request.query_params))
        match asked.scope:
            case Scope.CREATE:
                body = job(asked.query["name"], await _body(request), self._limits)
                return await self._forward(request.method, asked, "/containers/create", asked.query, body.request())
            case Scope.LIST:
                return await self._forward(request.method, asked, "/containers/json", list_query(self._limits))
            case Scope.ENGINE:
                return await self._forward(request.method, asked, f"/{asked.action}")
            case Scope.OURS | Scope.JOB:
                return await self._on_container(request.method, asked)

    async def _on_container(self, method: str, asked: AllowedCall) -> Response:
        found = await self._client.get(f"{asked.version}/containers/{asked.container}/json")
        if not found.is_success:
            return _relay(found)
        inspected = found.json()
        check_ours(inspected["Config"]["Labels"] or {}, asked.scope, self._limits)
        # By its id: the name may belong to another container meanwhile.
        action = f"/{asked.action}" if asked.action else ""
        return await self._forward(method, asked, f"/containers/{inspected['Id']}{action}", asked.query)

    async def _forward(
        self, method: str, asked: AllowedCall, path: str, query: dict[str, str] | None = None, body: object = None
    ) -> Response:
        return _relay(await self._client.request(method, asked.version + path, params=query, json=body))


def application(engine: Path, limits: Limits) -> Starlette:
    proxy = Proxy(engine, limits)

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        yield
        await proxy.close()

    return Starlette(routes=[Route("/{path:path}", proxy.answer, methods=METHODS)], lifespan=life)


async def serve(listen: Path, engine: Path, limits: Limits, group: str | None) -> None:
    """Serve until SIGTERM. The socket is for this user and `group` only."""
    with listening(listen, group) as listener:
        config = uvicorn.Config(application(engine, limits), log_level="warning", log_config=None, access_log=False)
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
    parser = argparse.ArgumentParser(prog="python -m deploy.docker.proxy", description=__doc__)
    parser.add_argument("--listen", type=Path, required=True, help="socket for the services")
    parser.add_argument("--engine", type=Path, default=Path("/var/run/docker.sock"), help="socket of the engine")
    parser.add_argument("--installation", default="soulforge", help="name of the installation that owns the containers")
    parser.add_argument("--image", action="append", required=True, help="image of a job; may be repeated")
    parser.add_argument(
        "--readable",
        action="append",
        type=Path,
        default=[],
        help="directory below which a job may read; may be repeated",
    )
    parser.add_argument(
        "--writable",
        action="append",
        type=Path,
        default=[],
        help="directory below which a job may write; may be repeated",
    )
    parser.add_argument("--user", help="uid:gid under which jobs must run")
    parser.add_argument("--group", help="group that may use the socket besides its owner")
    arguments = parser.parse_args()
    configure_logging("INFO", "docker-proxy")
    limits = Limits(
        installation=arguments.installation,
        images=frozenset(arguments.image),
        readable=tuple(root.resolve() for root in arguments.readable),
        writable=tuple(root.resolve() for root in arguments.writable),
        user=arguments.user,
    )
    try:
        asyncio.run(serve(arguments.listen, arguments.engine, limits, arguments.group))
    except ListenError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
