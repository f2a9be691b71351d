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

import psutil

from bench.harvest.corpus import PERSONA
from services.harvester.harvest import compile_order
from services.harvester.likeness.policy import LikenessPolicy
from services.harvester.order import Order
from services.harvester.policy import HarvestPolicy
from services.harvester.settings import HarvesterSettings
from services.harvester.wide import open_wide_pool
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


async def run(url: str, home: Path, what: str) -> dict[str, object]:
    pool = await open_wide_pool(url)
    phases: dict[str, float] = {}
    began = monotonic()

    def heard(phase: str, done: int, total: int) -> None:
        phases[phase] = round(monotonic() - began, 1)

    try:
        quick = HarvestPolicy(likeness=LikenessPolicy(by_words=what == "whole", by_meaning=what == "whole"))
        order = Order(
            PERSONA,
            TrainingIntent(persona=PERSONA),
            quick,
            HarvesterSettings(),
            None,
            PROJECT / "services/verifier/suites",
            url,
        )
        compiled, missing = await compile_order(pool, Artifacts(home), order, heard)
    finally:
        await pool.close()
    return {
        "phases": phases, "seen": compiled.seen, "rows": compiled.rows, "excluded": compiled.excluded,
        "written": compiled.written, "segments": len(compiled.segments), "missing": missing, "manifest": compiled.manifest,
    }  # fmt: skip


def main() -> None:
    url, home, what = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    peak = Peak()
    peak.start()
    began = monotonic()
    found = asyncio.run(run(url, home, what))
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
