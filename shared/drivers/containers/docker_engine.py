"""Calls to the engine: the docker SDK, its blocking calls in threads, its errors as ContainerError."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException, NotFound

from shared.drivers.containers.docker_request import EngineKind
from shared.drivers.containers.docker_template import INSTALLATION, CreateBody
from shared.drivers.containers.docker_view import Inspected
from shared.drivers.containers.port import ContainerError

T = TypeVar("T")
TAKEN = "already in use"  # Docker reports it with 409, Podman with 500.
UNIX = "unix://"
KNOCK_S = 5.0


class TakenError(Exception):
    """A container of that name exists already."""


class Engine:
    """One engine, connected on first use. Every call waits at most `timeout_s` and raises ContainerError."""

    def __init__(self, host: str, timeout_s: float) -> None:
        self.host = host
        self._timeout_s = timeout_s
        self._api: Any = None
        self._connecting = threading.Lock()

    async def kind(self) -> EngineKind:
        info, version = await self._call(lambda api: (api.info(), api.version()))
        return EngineKind(
            rootless="name=rootless" in (info.get("SecurityOptions") or ()),
            podman=any("Podman" in part.get("Name", "") for part in version.get("Components") or ()),
        )

    async def create(self, name: str, body: CreateBody) -> None:
        """Create a container. Raises TakenError where the name is in use."""
        await self._call(lambda api: api.create_container_from_config(body.request(), name))

    async def start(self, name: str) -> None:
        """Start a container; does nothing to a running one."""
        await self._call(lambda api: api.start(name))

    async def signal(self, name: str, number: int) -> None:
        """Signal a container; does nothing where it does not run or does not exist."""
        await self._call(lambda api: _while_it_runs(api, name, lambda: api.kill(name, signal=number)))

    async def inspect(self, name: str) -> Inspected | None:
        found = await self._call(lambda api: _known(lambda: api.inspect_container(name)))
        return None if found is None else Inspected(found)

    async def all_of(self, installation: str) -> list[Inspected]:
        """List every container of that installation, in any state."""
        return await self._call(lambda api: _list(api, installation))

    async def commands(self, name: str) -> list[str] | None:
        """List the command lines of its processes; empty when it does not run, None where the engine cannot list them."""
        table = await self._call(lambda api: _while_it_runs(api, name, lambda: _table(api, name)))
        # No rows where it ended between the read of its pids and that of their commands.
        return None if table == {} else [row[-1] for row in (table or {}).get("Processes") or ()]

    async def logs(self, name: str, tail: int) -> str:
        raw = await self._call(lambda api: _known(lambda: api.logs(name, tail=tail)))
        return (raw or b"").decode(errors="replace")

    async def stats(self, name: str) -> dict[str, Any]:
        """Read its statistics; empty when it does not run."""
        return (
            await self._call(
                lambda api: _while_it_runs(api, name, lambda: api.stats(name, stream=False, one_shot=True))
            )
            or {}
        )

    async def remove(self, name: str) -> None:
        await self._call(lambda api: _known(lambda: api.remove_container(name, v=True)))

    async def _call(self, do: Callable[[Any], T]) -> T:
        return await asyncio.to_thread(self._in_thread, do)

    def _in_thread(self, do: Callable[[Any], T]) -> T:
        try:
            _check_socket(self.host)
            return do(self._connected())
        except APIError as error:
            if TAKEN in str(error.explanation):
                raise TakenError from error
            raise ContainerError(f"the container engine refused: {error.explanation or error}") from error
        except (DockerException, requests.RequestException, OSError) as error:
            raise ContainerError(
                f"the container engine at {self.host} does not answer: start it (systemctl start docker), "
                f"or correct `host` under [docker] in soulforge.toml. Error: {_root_cause(error)}"
            ) from error

    def _connected(self) -> Any:
        with self._connecting:
            if self._api is None:
                # Requests the engine version, and so fails here while the engine is down.
                self._api = docker.APIClient(base_url=self.host, version="auto", timeout=self._timeout_s)  # type: ignore[arg-type] # a float will do
            return self._api


def _check_socket(host: str) -> None:
    """Raise OSError while nothing listens on a local socket. The SDK would leak a socket at each such attempt."""
    if host.startswith(UNIX):
        with socket.socket(socket.AF_UNIX) as visitor:
            visitor.settimeout(KNOCK_S)
            visitor.connect(host.removeprefix(UNIX))


def _list(api: Any, installation: str) -> list[Inspected]:
    rows = api.containers(all=True, filters={"label": f"{INSTALLATION}={installation}"})
    found = (_known(partial(api.inspect_container, row["Id"])) for row in rows)
    return [Inspected(one) for one in found if one is not None]


def _table(api: Any, name: str) -> dict[str, Any]:
    """The table of processes; Podman 4 may return an empty body."""
    try:
        return dict(api.top(name))
    except requests.exceptions.JSONDecodeError:
        return {}


def _known(do: Callable[[], T]) -> T | None:
    try:
        return do()
    except NotFound:
        return None


def _while_it_runs(api: Any, name: str, do: Callable[[], T]) -> T | None:
    """The result, or None for a container that does not run or ends meanwhile: engines report that in different ways."""
    try:
        return do()
    except NotFound:
        return None
    except APIError:
        found = _known(partial(api.inspect_container, name))
        if found is None or not found["State"]["Running"]:
            return None
        raise


def _root_cause(error: BaseException) -> str:
    """The innermost cause: the errors wrapped around it are about HTTP."""
    inner = error.__cause__ or error.__context__
    return _root_cause(inner) if inner else f"{type(error).__name__}: {error}"
