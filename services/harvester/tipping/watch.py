"""Look at the scales every while, quietly where the policy is off."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.harvester.tipping.policy import Scale, TippingPolicy, decide
from services.harvester.tipping.scales import measure, read_scales, rearm, tip
from shared.runtime.loops import Loop

if TYPE_CHECKING:
    from shared.runtime.context import ServiceContext

log = structlog.get_logger()


class TippingSettings(TippingPolicy, BaseSettings):
    """The policy as this house is told it."""

    model_config = SettingsConfigDict(env_prefix="SOULFORGE_TIPPING_", frozen=True, extra="ignore")

    poll_s: float = Field(60.0, gt=0, description="Seconds between two looks at the scales. Default: 60.")


def tipping_loop(context: ServiceContext) -> tuple[Loop, ...]:
    """The loop that weighs every persona's karma; none where the policy is off."""
    settings = TippingSettings()

    async def run() -> None:
        await look(context, settings)

    return (Loop("tipping", run, settings.poll_s),) if settings.enabled else ()


async def look(context: ServiceContext, policy: TippingPolicy) -> list[str]:
    """Decide for every persona, remember it, and ask for what tipped. Returns the personas that did."""
    now, tipped = datetime.now(UTC), []
    scales = await read_scales(context.pool)
    for measured in await measure(context.pool):
        scale = scales.get(measured.persona, Scale())
        decision = decide(measured, policy, scale, now)
        async with context.pool.acquire() as conn, conn.transaction():
            if decision.tip and await tip(conn, measured.persona, scale, decision, now):
                tipped.append(measured.persona)
                log.info("tipped", persona=measured.persona, why=decision.why)
            elif decision.armed and not scale.armed:
                await rearm(conn, measured.persona, scale)
                log.info("armed again", persona=measured.persona, why=decision.why)
    return tipped
