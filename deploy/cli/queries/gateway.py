"""Query the gateway's control socket: its table of versions, its gates, and what it refuses."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, TypeAdapter, ValidationError

from deploy.cli.errors import UserError
from shared.drivers.inference.http import Http
from shared.drivers.inference.port import InferenceError

if TYPE_CHECKING:
    from shared.config.settings import Settings

TIMEOUT_S = 5.0


class VersionUse(BaseModel):
    """Which engines have a version, when it was asked last, and how often since the gateway started."""

    loaded: tuple[str, ...]
    last_used: datetime | None
    requests: int
    withdrawn: str | None


class GateState(BaseModel):
    """One engine's gate, the requests that its engine works on, and those that wait for its base."""

    state: Literal["open", "closed"]
    reason: str | None
    in_flight: int
    waiting: int


class Withdrawal(BaseModel):
    version: str
    why: str


class Withdrawals(BaseModel):
    withdrawals: tuple[Withdrawal, ...]


class VersionTable(BaseModel):
    """The versions that the gateway knows. `table`: whether they are current, in words."""

    table: str
    versions: dict[str, VersionUse]


class GatewayStatus(BaseModel):
    """The gateway; `refused` are the versions that it refuses, with the reason."""

    table: VersionTable
    gates: dict[str, GateState]
    refused: dict[str, str]


GATES = TypeAdapter(dict[str, GateState])


async def get_gateway_status(settings: Settings) -> GatewayStatus:
    """Raises UserError where the gateway does not answer."""
    control = _control(settings)
    try:
        table, gates, given = await asyncio.gather(
            get_version_table(settings),
            control.call("GET", "/engines", timeout=TIMEOUT_S),
            control.call("GET", "/withdrawals", timeout=TIMEOUT_S),
        )
        withdrawals = Withdrawals.model_validate(given).withdrawals
        refused = {name: use.withdrawn for name, use in table.versions.items() if use.withdrawn}
        refused |= {one.version: one.why for one in withdrawals}
        return GatewayStatus(table=table, gates=GATES.validate_python(gates), refused=refused)
    except (InferenceError, ValidationError) as error:
        raise _unanswered(error) from error


async def get_version_table(settings: Settings) -> VersionTable:
    """Raises UserError where the gateway does not answer."""
    try:
        return VersionTable.model_validate(await _control(settings).call("GET", "/table", timeout=TIMEOUT_S))
    except (InferenceError, ValidationError) as error:
        raise _unanswered(error) from error


def _control(settings: Settings) -> Http:
    return Http(settings.gateway_control_url)


def _unanswered(error: Exception) -> UserError:
    return UserError(
        f"the gateway does not tell what it has ({' '.join(str(error).split())}): is the stack up? `soulforge up`"
    )
