"""A real SAQ worker in a process of its own: `python queue_workers.py URL CONCURRENCY [cron] [sweep]`.

It records in `queue.ran` what it ran and when, by the server's clock.
"""

from __future__ import annotations

import asyncio
import sys

import asyncpg
from saq import CronJob, Worker
from saq.queue.postgres import PostgresQueue
from saq.types import Context

QUEUE = "gpu"


class WorkContext(Context):
    """What SAQ passes to a task, and the pool that this worker lends it."""

    pool: asyncpg.Pool


async def work(context: WorkContext, seconds: float = 0.02) -> None:
    """Take `seconds`, and leave a row."""
    job = context["job"]
    row = await context["pool"].fetchval(
        "INSERT INTO queue.ran (job, attempt, started) VALUES ($1, $2, clock_timestamp()) RETURNING id",
        job.key,
        job.attempts,
    )
    await asyncio.sleep(seconds)
    await context["pool"].execute("UPDATE queue.ran SET ended = clock_timestamp() WHERE id = $1", row)


async def stumble(context: WorkContext, seconds: float = 0.02) -> None:
    """Fail the first time."""
    await work(context, seconds)
    if context["job"].attempts == 1:
        raise RuntimeError("the first attempt fails")


async def tick(context: WorkContext) -> None:
    await work(context)


async def main(url: str, concurrency: int, extras: list[str]) -> None:
    queue = PostgresQueue.from_url(
        f"{url}&options=-csearch_path%3Dqueue", name=QUEUE, min_size=1, max_size=concurrency + 4
    )
    await queue.connect()
    async with asyncpg.create_pool(url, min_size=1, max_size=concurrency) as pool:

        async def lend(context: WorkContext) -> None:
            context["pool"] = pool

        worker = Worker(
            queue,
            functions=[work, stumble],
            cron_jobs=[CronJob(tick, cron="* * * * * */1")] if "cron" in extras else None,
            concurrency=concurrency,
            startup=lend,
            timers={"sweep": 1, "schedule": 1, "worker_info": 10, "abort": 1},
        )
        await worker.start()
    await queue.disconnect()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
