"""The door: what clients use of the models, by the table of personas and versions and by what was withdrawn."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route

from services.gateway import names
from services.gateway.away import Queue
from services.gateway.commands import VersionCommands
from services.gateway.decisions import Decisions
from services.gateway.errors import Refusal, Refused, answer_refusal
from services.gateway.files.files import Files
from services.gateway.files.routes import FileRoutes
from services.gateway.gates import END_WITHIN_S, until
from services.gateway.generate import Generate
from services.gateway.jobs.jobs import Jobs
from services.gateway.jobs.routes import JobRoutes
from services.gateway.jobs.shape import check_name
from services.gateway.kept import Kept
from services.gateway.keys.authenticate import Authenticate, Authenticator
from services.gateway.keys.client import OWNER, Client, client_of
from services.gateway.keys.known import KnownKeys
from services.gateway.metrics import TABLE_AGE_SECONDS
from services.gateway.request import Bodies
from services.gateway.settings import GatewaySettings
from services.gateway.table import Table, read_table
from services.gateway.withdrawals import Withdrawals
from shared.asgi.origin import SameOrigin
from shared.asgi.replies import error, kind_of
from shared.contracts.scopes import Scope

if TYPE_CHECKING:
    from services.gateway.engines import Engines
    from services.gateway.forward import Forwarder
    from services.gateway.keys.key import Key
    from services.gateway.portal import Portal
    from shared.config.model import Configuration
    from shared.config.settings import Settings

GENERATING = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")
STALE_S = 15.0
KEEP_EVERY_S = 60.0
log = structlog.get_logger()


class TableError(Exception):
    """The gateway does not see what changes; the message has since when."""


class Door:
    """What clients use of the models. `sees`: what the registry decides is known here at once; `changed`: read the table."""

    def __init__(
        self,
        settings: Settings,
        configuration: Configuration,
        engines: Engines,
        forwarder: Forwarder,
        portal: Portal | None,
    ) -> None:
        limits = configuration.section(GatewaySettings)
        self._file = Kept(settings.home, "table", Table())
        self.table = read_table(self._file)
        self.withdrawals = Withdrawals(settings.home, self.table)
        self.queue = Queue(limits, engines)
        self.decisions = Decisions()
        self.files = Files(settings, configuration)
        self.jobs = Jobs()
        self.keys = KnownKeys(settings)
        self.authenticator = Authenticator(self.keys)
        self.sees = False
        self.changed = asyncio.Event()
        self.engines = engines
        self._kept, self._not_kept, self._keys_not_kept = self.table, "", ""
        TABLE_AGE_SECONDS.set_function(lambda: self.table.age_s)
        bodies = Bodies(limits)
        generate = Generate(self.resolve, configuration, forwarder, bodies, self.queue, portal)
        self._requests, self.uses = generate.requests, generate.uses
        self.app = Starlette(
            routes=[
                Route("/health", self._health),
                Route("/v1/models", self._list_models),
                Route("/v1/models/{name}", self._get_model),
                *(Route(path, generate, methods=["POST"]) for path in GENERATING),
                *VersionCommands(self.decisions, self.withdraw, bodies).routes("/v1/soulforge"),
                *FileRoutes(self.files).all(),
                *JobRoutes(self.jobs, self.files, bodies, configuration, self.keys).all(),
            ],
            middleware=[
                Middleware(SameOrigin, own_name=settings.host),
                Middleware(Authenticate, identify=self.authenticator.identify),
            ],
            exception_handlers={HTTPException: _no_route, Refusal: answer_refusal, Exception: _fault},
        )
        self.app.router.redirect_slashes = False

    async def set_table(self, table: Table) -> None:
        """Serve by this table from now on, and keep it on disk for a restart; a full disk delays only that."""
        lifted = self.withdrawals.learn(table)
        self.withdrawals.end(self._requests)
        moved = not self.sees or (table.personas, table.versions) != (self.table.personas, self.table.versions)
        self.table, self.sees = table, True
        if moved or lifted:
            self.engines.report_change()
        changed = (table.personas, table.versions) != (self._kept.personas, self._kept.versions)
        try:
            if lifted or self.withdrawals.behind:
                await self.withdrawals.keep()
            if changed or table.read_at - self._kept.read_at > KEEP_EVERY_S:
                await self._file.write(table)
                self._kept = table
            self._not_kept = ""
        except OSError as error:
            self._not_kept = f"cannot be kept on disk ({error}): a restart serves by an older one"

    async def withdraw(self, version: str, why: str) -> int:
        """Refuse a version from now on, also after a restart; returns how many requests that ended. Raises OSError."""
        self.withdrawals.add(version, why, self.table)
        ended = self.withdrawals.end(self._requests)
        self.engines.report_change()
        log.warning("version withdrawn", version=version, why=why, ended=len(ended))
        await self.withdrawals.keep()
        await until(lambda: not ended & self._requests, END_WITHIN_S)
        return len(ended)

    async def check_table(self) -> None:
        """Raise TableError while the gateway does not see what the registry decides."""
        if trouble := self._find_trouble():
            raise TableError(trouble)

    def describe_sight(self) -> str:
        """Whether the table is current, in a sentence."""
        return self._find_trouble() or f"is current, read {self.table.age_s:.0f} s ago"

    async def set_keys(self, keys: Sequence[Key]) -> None:
        """Let these in from now on, and keep them on disk for a restart; a full disk delays only that."""
        try:
            await self.keys.set(keys)
            self._keys_not_kept = ""
        except OSError as error:
            self._keys_not_kept = f"is current, but keys cannot be kept on disk ({error}): a restart knows older ones"

    def _find_trouble(self) -> str | None:
        if not self.table.read_at:
            return "was never read: only bases answer"
        if not self.sees or self.table.age_s > STALE_S:
            return f"was read {self.table.age_s:.0f} s ago: what was decided since is not known here"
        return self._not_kept or self._keys_not_kept or None

    def resolve(self, asked: str, client: Client = OWNER) -> names.Target:
        """Find what a name stands for now. Raises Refusal, also where the client may not ask it."""
        check_name(asked)
        client.require(Scope.CHAT, names.persona_of(asked, self.engines.bases))
        table = self.table.limited_to(client.personas)
        return names.resolve(table, self.engines.bases, asked, self.withdrawals.find)

    async def _health(self, request: Request) -> Response:
        """That the door is open, and what is behind it."""
        engines = {
            engine.rune: {
                "answers": engine.answers,
                "admits": engine.answers and not engine.closed,
                "in_flight": engine.in_flight,
                "waiting": self.queue.waiting[engine.base],
            }
            for engine in self.engines.all
        }
        return JSONResponse({"status": "open", "table": self.describe_sight(), "engines": engines})

    async def _list_models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": self._cards(request)})

    async def _get_model(self, request: Request) -> Response:
        name = request.path_params["name"]
        card = next((card for card in self._cards(request) if card["id"] == name), None)
        if card is None:
            raise Refusal(404, "model_not_found", f"there is no model {name[:100]!r}", param="model")
        return JSONResponse(card)

    def _cards(self, request: Request) -> list[dict[str, Any]]:
        """What the client may ask."""
        engines, table = self.engines, self.table.limited_to(client_of(request.scope).personas)
        find = self.withdrawals.find
        return list(names.list_cards(table, engines.bases, engines.loaded(), engines.base_of, find))


async def _no_route(request: Request, wrong: Exception) -> Response:
    """Everything else of an engine is not for clients."""
    assert isinstance(wrong, HTTPException)
    routes: list[Route] = request.app.routes
    paths = ", ".join(dict.fromkeys(route.path for route in routes))
    message = f"there is no {request.method} {request.url.path[:100]}: {paths}"
    headers = {}
    if wrong.status_code == 405:
        there = [route.methods or () for route in routes if route.matches(request.scope)[0] is not Match.NONE]
        headers["allow"] = ", ".join(sorted({method for methods in there for method in methods}))
    return JSONResponse(error(message, "not_found", kind_of(wrong.status_code)), wrong.status_code, headers)


async def _fault(request: Request, wrong: Exception) -> Response:
    return Refused(Refusal(500, "internal_error", "a fault in the gateway itself: its log has the details"))
