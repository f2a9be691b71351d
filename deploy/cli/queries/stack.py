"""Query every part of the stack; nothing here raises, and a part that is away costs at most TIMEOUT_S."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from deploy.cli.connect import bus, database, host_port
from deploy.cli.errors import UserError
from deploy.cli.queries.anvils import get_anvil
from deploy.cli.queries.rituals import list_open_rituals
from deploy.cli.views.standing_anvils import Finding

if TYPE_CHECKING:
    from deploy.cli.views.standing_anvils import Row
    from shared.settings import Settings

TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Ledger:
    """What the database told; `anvils` is None where it did not answer."""

    finding: Finding
    anvils: dict[str, Row] | None
    rituals: tuple[dict[str, Any], ...] = ()


async def ask_ledger(settings: Settings, anvils: tuple[str, ...]) -> Ledger:
    try:
        async with asyncio.timeout(TIMEOUT_S), database(settings) as pool:
            rows = {name: await get_anvil(pool, name) for name in anvils}
            rituals = tuple(await list_open_rituals(pool))
    except Exception as error:
        return Ledger(Finding("postgres", False, _why(error)), None)
    return Ledger(Finding("postgres", True, f"answers at {host_port(settings.database_url)}"), rows, rituals)


async def ask_bus(settings: Settings) -> Finding:
    try:
        async with asyncio.timeout(TIMEOUT_S), bus(settings) as client:
            info = await client.jetstream().account_info()
    except Exception as error:
        return Finding("nats", False, _why(error))
    return Finding("nats", True, f"answers at {host_port(settings.nats_url)}, {info.streams} streams")


async def ask_service(settings: Settings, name: str) -> Finding:
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:
            answer = (await client.get(f"{settings.service_url(name)}/health/ready")).json()
    except (httpx.HTTPError, ValueError) as error:
        return Finding(name, False, f"does not answer at {host_port(settings.service_url(name))} ({_why(error)})")
    reasons = "; ".join(str(reason) for reason in answer.get("reasons", []))
    return Finding(name, bool(answer.get("ready")), reasons or "ready")


def processes(settings: Settings) -> dict[str, dict[str, Any]]:
    """What the embedded stack supervises; empty where the house is run by something else, or was never put up."""
    from deploy.embedded import stack

    return stack.status(settings) if settings.home.is_dir() else {}


def _why(error: BaseException) -> str:
    if isinstance(error, UserError):
        return str(error)
    return " ".join(str(error).split()) or f"no answer within {TIMEOUT_S:.0f} s"
