"""A history: real processes meet faults while intents arrive, and a checker judges what became of them.

`python -m tests.chaos.run --minutes 10 --seed 1` prints a report as JSON; exit code 1 where a promise was broken. The plan of
faults follows from the seed; what they meet depends on the machine's speed. The database's clock, which measures the leases,
steps in their rows only: setting the real one would meet every process of the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg

from shared.storage.postgres import UNREACHABLE
from tests.chaos.checker import Checker, Found
from tests.chaos.house import START_WITHIN_S, ChaosHouse
from tests.chaos.inject import Injector
from tests.chaos.schedule import Kind, plan
from tests.chaos.senders import Sender
from tests.chaos.watch import InferenceWatch, JobWatch
from tests.support.running import eventually, left_running

INFERENCE_MARGIN_S = 10.0  #: over `start_within_s`: models_within_s, two passes, and the clients' time to reconnect
SETTLES_WITHIN_S = 240.0
ANSWERED_WITHIN_S = 60.0
UP_WITHIN_S = 60.0
PAUSE_S = 2.0
ENDS_WITHIN_S = 5.0
POLL_S = 0.1
SHOWN = 40  #: faults in a report of a breach


async def history(minutes: float, seed: int, kinds: Collection[Kind], folder: Path) -> dict[str, Any]:
    house = ChaosHouse(folder)
    jobs = JobWatch(house.settings.home)
    injector = Injector(house)
    sender = Sender(house.through_proxy, seed, PAUSE_S)
    inference = InferenceWatch(house, jobs, lambda: None if injector.broken else injector.rune_killed_at)
    tasks: list[asyncio.Task[None]] = []
    try:
        await house.start()
        jobs.start()
        tasks.append(asyncio.create_task(inference.run()))
        await eventually(lambda: asyncio.sleep(0, inference.serving), UP_WITHIN_S, "inference serves")
        tasks += [asyncio.create_task(sender.run()), asyncio.create_task(_count_ended(house, sender))]
        tasks.append(asyncio.create_task(_show(injector, sender, jobs)))
        await injector.run(plan(minutes * 60, seed, kinds))
        tasks[1].cancel()
        await sender.finish(ANSWERED_WITHIN_S)
        found = await Checker(house).settle(sender.sent, SETTLES_WITHIN_S)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await sender.close()
        if jobs.is_alive():
            jobs.stop()
        await house.close()
    found.stuck += [f"left running: {line}" for line in await _left_running(house.settings.home)]
    return {"seed": seed, "minutes": minutes, **report(found, injector, sender, jobs, inference)}


async def _left_running(home: Path) -> list[str]:
    """What still works for this home; a shim ends a moment after its container."""
    for _ in range(int(ENDS_WITHIN_S / POLL_S)):
        if not left_running(home):
            break
        await asyncio.sleep(POLL_S)
    return left_running(home)


def report(
    found: Found, injector: Injector, sender: Sender, jobs: JobWatch, inference: InferenceWatch
) -> dict[str, Any]:
    bound_s = START_WITHIN_S + INFERENCE_MARGIN_S
    breaches = [*found.lost, *found.doubled, *found.stuck]
    breaches += [f"two fences alive: {line}" for line in jobs.two_fences]
    breaches += [f"the same job twice: {line}" for line in jobs.same_job_twice]
    breaches += [f"inference served beside a job: {line}" for line in inference.beside_a_job]
    if inference.longest_s > bound_s:
        breaches.append(f"inference was away for {inference.longest_s:.0f} s without a lease")
    kinds = Counter(str(fired.kind) for fired in injector.fired)
    return {
        "faults": len(injector.fired),
        "faults_by_kind": dict(kinds.most_common()),
        "kinds": f"{len(kinds)} of {len(Kind)}",
        "met_nothing": len(injector.missed),
        "intents": len(sender.sent),
        "sent_again": sum(one.tries - 1 for one in sender.sent),
        "rituals": found.rituals,
        "rituals_by_end": dict(found.ends.most_common()),
        "jobs": len(jobs.started),
        "jobs_started_again": sum(len(pids) > 1 for pids in jobs.started.values()),
        "lost": len(found.lost),
        "doubled": len(found.doubled) + len(jobs.same_job_twice),
        "stuck": len(found.stuck),
        "two_fences": len(jobs.two_fences),
        "inference_beside_a_job": len(inference.beside_a_job),
        "samples_of_jobs": jobs.samples,
        "longest_between_samples_s": round(jobs.longest_gap_s, 2),
        "probes_of_inference": inference.probes,
        "longest_without_inference_s": round(inference.longest_s, 1),
        "longest_without_inference_in_sum_s": round(inference.longest_in_sum_s, 1),
        "without_inference_bound_s": bound_s,
        "breaches": breaches,
        "last_faults": [str(fired) for fired in sorted(injector.fired, key=lambda one: one.at_s)[-SHOWN:]]
        if breaches
        else [],
    }


async def _count_ended(house: ChaosHouse, sender: Sender) -> None:
    """Keep the sender informed how many rituals ended, so that only a few wait at a time."""
    while True:
        await asyncio.sleep(PAUSE_S)
        with suppress(*UNREACHABLE, asyncpg.PostgresError):
            connection = await asyncpg.connect(house.settings.database_url("bootstrap"), timeout=2, command_timeout=2)
            try:
                sender.ended = await connection.fetchval(
                    "SELECT count(*) FROM ritual WHERE ended_at IS NOT NULL AND id = ANY ($1)",
                    [one.ritual for one in sender.sent],
                )
            finally:
                connection.terminate()


async def _show(injector: Injector, sender: Sender, jobs: JobWatch) -> None:
    while True:
        await asyncio.sleep(15)
        print(
            f"{injector.elapsed_s():5.0f} s  {len(injector.fired)} faults, {len(sender.sent)} intents, "
            f"{sender.ended} rituals ended, {len(jobs.started)} jobs",
            file=sys.stderr,
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=Kind.__members__, default=list(Kind.__members__), metavar="KIND")
    parser.add_argument("--keep", action="store_true", help="keep the home with its logs")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soulforge-chaos-"))
    try:
        found = asyncio.run(history(given.minutes, given.seed, [Kind[name] for name in given.only], folder))
    finally:
        if given.keep:
            print(f"the home is {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(found, indent=2))
    return 1 if found["breaches"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
