"""OpenAI's `/v1/files`. All of it needs the scope `train`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from services.gateway.errors import Refusal
from services.gateway.files.files import ID
from services.gateway.files.form import FINE_TUNE
from services.gateway.keys.client import client_of
from services.gateway.request import Gone
from shared.contracts.scopes import Scope

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

    from services.gateway.files.files import Files
    from services.gateway.files.store import StoredFile
    from services.gateway.keys.client import Client

PATH = "/v1/files"
LARGEST_PAGE = 10_000


class FileRoutes:
    """The routes of files."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def all(self) -> Iterator[Route]:
        yield Route(PATH, self._list)
        yield Route(PATH, self._create, methods=["POST"])
        yield Route(PATH + "/{id}", self._get)
        yield Route(PATH + "/{id}", self._delete, methods=["DELETE"])
        yield Route(PATH + "/{id}/content", self._get_content)

    async def _create(self, request: Request) -> Response:
        try:
            file = await self._files.upload(_client(request), request.scope, request.receive)
        except Gone:
            return Response(status_code=400)  # which none is there to read
        return JSONResponse(file.card())

    async def _list(self, request: Request) -> Response:
        client, asked = _client(request), request.query_params
        limit, order, after = _limit(asked.get("limit")), asked.get("order", "desc"), asked.get("after")
        if order not in ("asc", "desc"):
            raise _invalid("order", "asc or desc")
        if after is not None and not ID.fullmatch(after):
            raise _invalid("after", "the id of a file")
        found: list[StoredFile] = []
        if asked.get("purpose", FINE_TUNE) == FINE_TUNE:
            found = await self._files.list(client, after, limit + 1, order == "asc")
        cards = [file.card() for file in found[:limit]]
        first, last = (cards[0]["id"], cards[-1]["id"]) if cards else (None, None)
        page = {"object": "list", "data": cards, "first_id": first, "last_id": last, "has_more": len(found) > limit}
        return JSONResponse(page)

    async def _get(self, request: Request) -> Response:
        return JSONResponse((await self._find(request)).card())

    async def _get_content(self, request: Request) -> Response:
        file = await self._find(request)
        if not file.path.exists():
            raise Refusal(404, "file_not_found", f"the content of {file.id} is missing on the disk: upload it again")
        return FileResponse(file.path, media_type="application/octet-stream", filename=file.filename)

    async def _delete(self, request: Request) -> Response:
        file = await self._find(request)
        await self._files.delete(file)
        return JSONResponse({"id": file.id, "object": "file", "deleted": True})

    async def _find(self, request: Request) -> StoredFile:
        client, id = _client(request), request.path_params["id"]
        if found := await self._files.find(id, client):
            return found
        raise Refusal(404, "file_not_found", f"there is no file {id[:60]!r}", param="file_id")


def _client(request: Request) -> Client:
    client = client_of(request.scope)
    client.require(Scope.TRAIN)
    return client


def _limit(given: str | None) -> int:
    if given is None:
        return LARGEST_PAGE
    if not re.fullmatch(r"[0-9]{1,5}", given) or not 1 <= int(given) <= LARGEST_PAGE:
        raise _invalid("limit", f"a number from 1 to {LARGEST_PAGE}")
    return int(given)


def _invalid(name: str, expected: str) -> Refusal:
    return Refusal(400, "invalid_parameter", f"{name}: expected {expected}", param=name)
