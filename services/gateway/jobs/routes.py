"""`/v1/fine_tuning/jobs`: OpenAI's routes. A client sees the jobs of its own key; one with the scope `admin` sees all."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.gateway.errors import Refusal
from services.gateway.jobs import commands, shape, store
from services.gateway.jobs.create import create_job
from services.gateway.jobs.stream import EventStreams
from services.gateway.keys.client import client_of
from services.gateway.request import Gone, parse, parse_object
from shared.contracts.forge import AdapterForged
from shared.contracts.scopes import Scope
from shared.contracts.text import is_storable
from shared.ritual.views import list_facts

if TYPE_CHECKING:
    from services.gateway.files.files import Files
    from services.gateway.jobs.jobs import Jobs
    from services.gateway.jobs.store import Job
    from services.gateway.keys.known import KnownKeys
    from services.gateway.request import Bodies
    from shared.config.model import Configuration

PATH = "/v1/fine_tuning/jobs"
MOST_LISTED, LISTED, LISTED_CHECKPOINTS = 100, 20, 10
METADATA = re.compile(r"metadata\[(.{1,64})\]")


class JobRoutes:
    """The routes of jobs, of their events and of their checkpoints."""

    def __init__(self, jobs: Jobs, files: Files, bodies: Bodies, configuration: Configuration, keys: KnownKeys) -> None:
        self._jobs, self._files, self._bodies, self._configuration = jobs, files, bodies, configuration
        self.streams = EventStreams(jobs, keys)

    def all(self) -> Iterator[Route]:
        one = PATH + "/{id}"
        yield Route(PATH, self._create, methods=["POST"])
        yield Route(PATH, self._list)
        yield Route(one, self._get)
        for command in (commands.cancel, commands.pause, commands.resume):
            yield Route(f"{one}/{command.__name__}", self._command(command), methods=["POST"])
        yield Route(f"{one}/events", self._list_events)
        yield Route(f"{one}/checkpoints", self._list_checkpoints)

    async def _create(self, request: Request) -> Response:
        client = client_of(request.scope)
        client.require(Scope.TRAIN)
        try:
            with self._bodies.hold() as body:
                await self._bodies.read(body, request.scope, request.receive)
                fields = await parse(parse_object, body.take())
        except Gone:
            return Response(status_code=400)  # which none is there to read
        key = request.headers.get("idempotency-key")
        async with self._jobs.database() as pool:
            job = await create_job(pool, self._configuration, self._files, client, fields, key)
        self._jobs.woken.set()
        return JSONResponse(shape.describe_job(job))

    async def _list(self, request: Request) -> Response:
        seen, limit = _sees(request), _limit(request, LISTED)
        if after := request.query_params.get("after"):
            await self._find(seen, after)
        metadata, without = _metadata(request)
        async with self._jobs.database() as pool:
            found = await store.list_jobs(pool, seen, limit + 1, after, metadata, without)
        return _page([shape.describe_job(job) for job in found], limit)

    async def _get(self, request: Request) -> Response:
        return JSONResponse(shape.describe_job(await self._job(request)))

    def _command(self, command: commands.Command) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            job = await self._job(request)
            await command(self._jobs, job.id)
            return JSONResponse(shape.describe_job(await self._job(request)))

        return handle

    async def _list_events(self, request: Request) -> Response:
        job, params = await self._job(request), request.query_params
        if params.get("stream") == "true" or "text/event-stream" in request.headers.get("accept", ""):
            seen = request.headers.get("last-event-id") or params.get("after")
            begin = shape.parse_event_id(job.id, seen, "after") if seen else 0
            return self.streams.respond(job.id, begin, client_of(request.scope).key)
        limit, after = _limit(request, LISTED), params.get("after")
        before = shape.parse_event_id(job.id, after, "after") if after else None
        async with self._jobs.database() as pool:
            found = await store.list_events_before(pool, job.id, before, limit + 1)
        return _page([shape.describe_event(job.id, event) for event in found], limit)

    async def _list_checkpoints(self, request: Request) -> Response:
        job, limit = await self._job(request), _limit(request, LISTED_CHECKPOINTS)
        async with self._jobs.database() as pool:
            facts = await list_facts(pool, job.ritual)
        found: list[dict[str, Any]] = []
        for recorded in facts:
            if isinstance(recorded.fact, AdapterForged):  # after a pause there is another, and only the last one counts
                found = list(shape.describe_checkpoints(job, recorded.fact, recorded.stated_at))
        if after := request.query_params.get("after"):
            places = [place for place, one in enumerate(found, 1) if one["id"] == after]
            if not places:
                raise Refusal(
                    400, "invalid_value", f"`after`: {after[:100]!r} is no checkpoint of {job.id}", param="after"
                )
            found = found[places[0] :]
        return _page(found[: limit + 1], limit)

    async def _job(self, request: Request) -> Job:
        return await self._find(_sees(request), request.path_params["id"])

    async def _find(self, seen: str | None, id: str) -> Job:
        async with self._jobs.database() as pool:
            job = await store.get_job(pool, seen, id) if is_storable(id) else None
        if job is None:
            raise Refusal(
                404, "fine_tune_not_found", f"there is no job {id[:100]!r} of this key", param="fine_tuning_job_id"
            )
        return job


def _sees(request: Request) -> str | None:
    """The key whose jobs the client may see; None: all. Raises Refusal."""
    client = client_of(request.scope)
    client.require(Scope.TRAIN)
    return None if client.has(Scope.ADMIN) else client.key


def _limit(request: Request, default: int) -> int:
    given = request.query_params.get("limit", str(default))
    if not re.fullmatch(r"\d{1,3}", given) or not 1 <= int(given) <= MOST_LISTED:
        raise Refusal(400, "invalid_value", f"`limit` must be a number from 1 to {MOST_LISTED}", param="limit")
    return int(given)


def _metadata(request: Request) -> tuple[dict[str, str], bool]:
    """The filter `metadata[k]=v`, and whether only jobs without any metadata are asked for (`metadata=null`)."""
    found = {}
    for name, value in request.query_params.multi_items():
        if match := METADATA.fullmatch(name):
            found[match[1]] = value
    if not is_storable(found):
        raise Refusal(400, "invalid_value", "`metadata`: NUL character", param="metadata")
    return found, request.query_params.get("metadata") == "null"


def _page(found: list[dict[str, Any]], limit: int) -> Response:
    """A page of what was found, which is one more than the page where more follow."""
    data = found[:limit]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return JSONResponse({"object": "list", "data": data, "has_more": len(found) > limit, **ends})
