"""The steps of a hand-over and their record: a row is inserted when a step begins and updated when it ends."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import structlog

from shared.contracts.job import JobSpan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from shared.storage.postgres import Pool

log = structlog.get_logger()

Detail = dict[str, str | int]  # the figures that a step found, e.g. {"drained": 3, "aborted": 0}
Answers = dict[str, str | None]  # what each model of a rune answers to the same question; None: it could not be asked


class Step(StrEnum):
    """Everything that is done to an anvil between two answers of its inference, in this order."""

    ANNOUNCE = "announce"  #: `inference.suspended` is published
    HOLD = "hold"  #: a worker queue starts no more jobs
    DRAIN_QUEUE = "drain-queue"  #: none of its jobs is active
    CLOSE = "close"  #: a rune admits no more requests
    DRAIN = "drain"  #: requests in flight are finished, or aborted when the grace is over
    PROBE = "probe"  #: the answer of every model is recorded
    STOP = "stop"  #: the rune is stopped, or asleep
    PROVE = "prove"  #: no process, no memory: measured
    HAND_OVER = "hand-over"  #: `gpu.evacuated` is recorded
    TAKE_BACK = "take-back"  #: the jobs are proven gone and the lease is released
    START = "start"  #: the rune is started, its admission closed
    ANSWER = "answer"  #: it answers
    LOAD = "load"  #: every adapter that it served is loaded again
    COMPARE = "compare"  #: every model answers as before
    OPEN = "open"  #: it admits requests
    RELEASE = "release"  #: the worker queues are released
    RESUME = "resume"  #: `gpu.restored` and `inference.resumed` are published


EVACUATION = tuple(Step)[: tuple(Step).index(Step.HAND_OVER) + 1]
RESTORATION = tuple(Step)[tuple(Step).index(Step.TAKE_BACK) :]


@dataclass(frozen=True)
class Steps:
    """The record of one hand-over, named by anvil and fence."""

    pool: Pool
    anvil: str
    fence: int

    @asynccontextmanager
    async def step(self, step: Step, part: str = "") -> AsyncIterator[Detail]:
        """Record the block as a step; what the block puts into the mapping becomes the step's detail.

        A step that is repeated keeps its first beginning. One that raises does not end.
        """
        await self.begin(step, part)
        detail: Detail = {}
        yield detail
        await self.end(step, part, detail)

    async def begin(self, step: Step, part: str = "") -> None:
        """Record that the step begins; a repeated beginning counts a try."""
        await self.pool.execute(
            "INSERT INTO hand_over_step (anvil, fence, step, part) VALUES ($1, $2, $3, $4) ON CONFLICT "
            "(anvil, fence, step, part) DO UPDATE SET tries = hand_over_step.tries + 1 "
            "WHERE hand_over_step.ended_at IS NULL",
            self.anvil,
            self.fence,
            step,
            part,
        )

    async def end(self, step: Step, part: str = "", detail: Detail | None = None) -> None:
        """Record that the step ended; one that is repeated keeps its first end and detail."""
        await self.pool.execute(
            "UPDATE hand_over_step SET ended_at = clock_timestamp(), detail = $5 "
            "WHERE anvil = $1 AND fence = $2 AND step = $3 AND part = $4 AND ended_at IS NULL",
            self.anvil,
            self.fence,
            step,
            part,
            detail or {},
        )
        log.info("step ended", step=step, part=part, anvil=self.anvil, fence=self.fence, **(detail or {}))

    async def ended(self, step: Step, part: str = "") -> bool:
        return bool(
            await self.pool.fetchval(
                "SELECT true FROM hand_over_step WHERE anvil = $1 AND fence = $2 AND step = $3 AND part = $4 "
                "AND ended_at IS NOT NULL",
                self.anvil,
                self.fence,
                step,
                part,
            )
        )

    async def sum_detail(self, step: Step, figure: str) -> int:
        """Sum a figure in the details of a step over all its parts."""
        total: int = await self.pool.fetchval(
            "SELECT coalesce(sum((detail ->> $4)::int), 0)::int FROM hand_over_step "
            "WHERE anvil = $1 AND fence = $2 AND step = $3",
            self.anvil,
            self.fence,
            step,
            figure,
        )
        return total

    async def list_spans(self, steps: Sequence[Step]) -> tuple[JobSpan, ...]:
        """Those of these steps that ended, as spans of the ritual's trace."""
        rows = await self.pool.fetch(
            "SELECT step, part, tries, detail, (extract(epoch FROM began_at) * 1e9)::bigint AS start_ns, "
            "(extract(epoch FROM ended_at) * 1e9)::bigint AS end_ns FROM hand_over_step "
            "WHERE anvil = $1 AND fence = $2 AND step = ANY ($3::text[]) AND ended_at IS NOT NULL ORDER BY began_at",
            self.anvil,
            self.fence,
            [str(step) for step in steps],
        )
        return tuple(_span(**dict(row)) for row in rows)


def _span(step: str, part: str, tries: int, detail: Detail, start_ns: int, end_ns: int) -> JobSpan:
    figures = {f"soulforge.{name}": value for name, value in detail.items()}
    name = f"{step}.{part}" if part else step
    return JobSpan(name=name, start_ns=start_ns, end_ns=end_ns, attributes={"soulforge.tries": tries, **figures})
