"""Forward the allowed calls of the services to the engine, with binds that are mounted meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import structlog
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deploy.docker.limits import check_ours, check_started, new_container
from deploy.docker.rules import AllowedCall, RefusedError, Scope, allow, list_query
from shared.drivers.containers.docker_template import NULL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from typing import Any

    from starlette.requests import Request

    from deploy.docker.binds import Binds
    from deploy.docker.limits import Limits

log = structlog.get_logger()
TIMEOUT_S = 60.0
MOST_BYTES = 1 << 16
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"]


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
