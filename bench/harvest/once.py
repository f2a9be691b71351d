"""One harvest in a process of its own, so that its memory can be measured: prints what it found and took, as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from time import monotonic
from uuid import uuid4

import psutil

from bench.harvest.corpus import PERSONA
from services.harvester import store
from services.harvester.harvest import harvest, harvest_connection
from services.harvester.policy import HarvestPolicy
from services.harvester.request import HarvestRequest
from shared.config.settings import PROJECT
from shared.contracts.intent import TrainingIntent
from shared.storage.artifacts import Artifacts

SAMPLE_S = 0.1


class Peak(threading.Thread):
    """The largest sum of the resident memory of this process and its children, in MiB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.mib = 0.0
        self.done = threading.Event()

    def run(self) -> None:
        me = psutil.Process()
        while not self.done.wait(SAMPLE_S):
            total = 0
            for process in (me, *me.children(recursive=True)):
                with suppress(psutil.Error):
                    total += process.memory_info().rss
            self.mib = max(self.mib, total / 2**20)


async def run(url: str, home: Path) -> dict[str, object]:
    phases: dict[str, float] = {}
    began = monotonic()

    def on_progress(phase: str, done: int, total: int) -> None:
        phases[phase] = round(monotonic() - began, 1)

    suites = PROJECT / "services/verifier/suites"
    request = HarvestRequest(PERSONA, TrainingIntent(persona=PERSONA), HarvestPolicy(), suites)
    async with harvest_connection(url, PERSONA) as conn:
        compiled = await harvest(conn, request, Artifacts(home), on_progress)
        async with conn.transaction():
            await store.record_exclusions(conn, uuid4())
            await store.record_manifest(conn, PERSONA, compiled)
            await store.seal_holdout(conn, PERSONA)
        on_progress("recording", 0, 1)
    return {
        "phases": phases, "seen": compiled.seen, "rows": compiled.rows, "excluded": compiled.excluded,
        "manifest": compiled.manifest,
    }  # fmt: skip


def main() -> None:
    url, home = sys.argv[1], Path(sys.argv[2])
    peak = Peak()
    peak.start()
    began = monotonic()
    found = asyncio.run(run(url, home))
    wall_s = monotonic() - began
    peak.done.set()
    peak.join()
    print(json.dumps(found | {"wall_s": round(wall_s, 2), "cpu_s": round(_cpu_s(), 2), "peak_mib": round(peak.mib)}))


def _cpu_s() -> float:
    """Seconds of processor time of this process and the children that ended; PostgreSQL's own are not among them."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()
