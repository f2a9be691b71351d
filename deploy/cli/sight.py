"""What `watch` sees: the ledger's rows of one ritual, and the last word of its running job."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import UUID

import nats
from pydantic import ValidationError

from deploy.cli.connect import ignore_error
from deploy.cli.queries.anvils import get_decision, list_hand_overs
from deploy.cli.queries.rituals import get_ritual, list_facts
from deploy.cli.views.stages import Row, job_now
from shared.contracts.intent import RitualProgress

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from shared.postgres import Pool
    from shared.settings import Settings

LOOK_TIMEOUT_S = 5.0
FRESH_S = 15.0


@dataclass(frozen=True)
class Sight:
    """One look at the ledger. `now` is the database's clock, which also wrote the rows."""

    ritual: Row
    facts: list[dict[str, Any]]
    hand_overs: list[dict[str, Any]]
    tipping: dict[str, Any] | None = None

    @property
    def now(self) -> datetime:
        moment: datetime = self.ritual["now"]
        return moment


async def look(pool: Pool, ritual: UUID) -> Sight | None:
    """The ritual as it stands; None when there is no such row. Raises UNREACHABLE errors within LOOK_TIMEOUT_S."""
    async with (
        asyncio.timeout(LOOK_TIMEOUT_S),
        pool.acquire() as conn,
        conn.transaction(isolation="repeatable_read", readonly=True),
    ):
        row = await get_ritual(conn, ritual)
        if row is None:
            return None
        return Sight(
            row,
            await list_facts(conn, ritual),
            await list_hand_overs(conn, ritual),
            await get_decision(conn, ritual),
        )


class Progress:
    """Hears `ritual.progress` for one ritual for as long as it is watched, through any restart of the bus."""

    def __init__(self, ritual: UUID) -> None:
        self.ritual = ritual
        self._last: RitualProgress | None = None
        self._heard_at = 0.0

    async def listen(self, settings: Settings) -> None:
        client = await nats.connect(
            settings.nats_url, max_reconnect_attempts=-1, reconnect_time_wait=1, error_cb=ignore_error
        )
        try:
            await client.subscribe(RitualProgress.subject, cb=self._hear)
            await asyncio.Event().wait()
        finally:
            await client.close()

    async def _hear(self, message: Msg) -> None:
        try:
            progress = RitualProgress.model_validate_json(message.data)
        except ValidationError:
            return  # Lossy by nature: what cannot be read is not shown.
        if progress.ritual == self.ritual:
            self._last, self._heard_at = progress, monotonic()

    def of(self, sight: Sight) -> RitualProgress | None:
        """The last word of the job of this state; None when it is another job's or old."""
        if self._last is None or self._last.job != job_now(sight.ritual) or monotonic() - self._heard_at > FRESH_S:
            return None
        return self._last
