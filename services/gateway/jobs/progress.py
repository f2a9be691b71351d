"""Progress of the training, as events: one for each hundredth of the steps, however often an attempt repeats one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from pydantic import ValidationError

from services.gateway.jobs import store
from services.gateway.jobs.store import Event
from shared.contracts.intent import RitualProgress
from shared.storage.postgres import UNREACHABLE

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from services.gateway.jobs.jobs import Jobs
    from shared.runtime.context import ServiceContext

log = structlog.get_logger()


class ProgressReader:
    """Records `ritual.progress`, which is lossy by nature: what is missed is no event."""

    def __init__(self, context: ServiceContext, jobs: Jobs) -> None:
        self._client, self._pool, self._jobs = context.nats, context.pool, jobs
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        self._subscription = await self._client.subscribe(RitualProgress.subject, cb=self.note)

    async def stop(self) -> None:
        if self._subscription:
            await self._subscription.unsubscribe()

    async def note(self, message: Msg) -> None:
        try:
            progress = RitualProgress.model_validate_json(message.data)
        except ValidationError:
            return
        if event := metrics_of(progress):
            try:
                if job := await store.find_by_ritual(self._pool, progress.ritual):
                    await self._jobs.record(job, event)
            except UNREACHABLE as error:
                log.warning("progress not recorded", error=str(error) or type(error).__name__)


def metrics_of(progress: RitualProgress) -> Event | None:
    """The event of a step of the training; None where it is about something else."""
    if progress.loss is None or progress.total <= 0:
        return None
    hundredth = 100 * progress.done // progress.total
    data = {"step": progress.done, "total_steps": progress.total, "train_loss": progress.loss}
    text = f"Step {progress.done}/{progress.total}: training loss={progress.loss:.4f}"
    return Event(f"progress/{hundredth}", text, type="metrics", data=data)
