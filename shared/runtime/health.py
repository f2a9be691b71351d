"""Health of a service over HTTP: `/health/live` (the event loop runs), `/health/ready` (it can work), `/metrics`.

They only read, and any account of the machine may; web pages may not.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared.asgi.origin import SameOrigin
from shared.messaging import outbox
from shared.messaging.streams import check_consumers
from shared.ritual.errors import list_failing
from shared.storage.postgres import is_read_only

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from shared.messaging.streams import Subscription
    from shared.runtime.context import ServiceContext

    Check = Callable[[], Awaitable[None]]  # raises an error that says why the service cannot do its job

CHECK_TIMEOUT_S = 3.0
OUTBOX_STUCK_S = 30.0
RECONCILE_STALE_S = 120.0
RITUAL_ERRORS = 3  # errors of a ritual in a row from which it counts as one that does not go on


def health_app(
    context: ServiceContext, subscriptions: Sequence[Subscription], further: Mapping[str, Check] | None = None
) -> FastAPI:
    """The HTTP application. `further`: checks of this service's own, by what they are about."""
    app = FastAPI(title=f"soulforge {context.service}", docs_url=None, redoc_url=None)
    app.add_middleware(SameOrigin, own_name=context.settings.host)

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.get("/health/ready")
    async def ready() -> JSONResponse:
        reasons = await unready_reasons(context, subscriptions, further or {})
        return JSONResponse({"ready": not reasons, "reasons": reasons}, status_code=503 if reasons else 200)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return app


async def unready_reasons(
    context: ServiceContext, subscriptions: Sequence[Subscription], further: Mapping[str, Check]
) -> list[str]:
    """List why this service cannot work now; empty when it can. Never takes longer than CHECK_TIMEOUT_S."""
    checks = await asyncio.gather(
        _reason("database", _database(context)),
        _reason("bus", _bus(context, subscriptions)),
        _reason("outbox", _outbox(context)),
        _reason("rituals", _rituals(context)),
        *(_reason(part, check()) for part, check in further.items()),
    )
    stale = monotonic() - context.reconciled_at
    late = [f"reconciler: last finished {stale:.0f} s ago"] if stale > RECONCILE_STALE_S else []
    return [reason for reason in checks if reason] + late


async def _reason(part: str, check: Awaitable[None]) -> str | None:
    try:
        await asyncio.wait_for(check, CHECK_TIMEOUT_S)
    except TimeoutError:
        return f"{part}: no answer within {CHECK_TIMEOUT_S:.0f} s"
    except Exception as error:
        return f"{part}: {str(error) or type(error).__name__}"
    return None


async def _database(context: ServiceContext) -> None:
    if await is_read_only(context.pool):
        raise RuntimeError("it is read-only, so that nothing goes on until it takes writes again")


async def _bus(context: ServiceContext, subscriptions: Sequence[Subscription]) -> None:
    if not context.nats.is_connected:
        raise ConnectionError("not connected to NATS")
    await check_consumers(context.nats.jetstream(), subscriptions)


async def _outbox(context: ServiceContext) -> None:
    oldest = await outbox.get_oldest_unpublished(context.pool)
    if oldest is None or oldest.age_s <= OUTBOX_STUCK_S:
        return
    waits = f"the oldest message has waited for {oldest.age_s:.0f} s"
    if oldest.error is None:
        raise RuntimeError(waits)
    raise RuntimeError(
        f"{waits}: it is on {oldest.subject!r} and met {oldest.failures} errors, last: {oldest.error}; correct the cause, and "
        "it is published by itself; only where no repetition can succeed, "
        f"delete row {oldest.seq} of {context.service}.outbox"
    )


async def _rituals(context: ServiceContext) -> None:
    if failing := await list_failing(context.pool, context.service, RITUAL_ERRORS):
        ritual, count, error = failing[-1]
        raise RuntimeError(f"{len(failing)} cannot go on; {str(ritual)[:8]} met {count} errors in a row, last: {error}")
