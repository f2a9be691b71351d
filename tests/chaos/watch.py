"""Watch from outside while faults happen: which jobs are on the anvil at a moment, and whether inference serves."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import asyncpg
import httpx

from shared.config.tables import EMBEDDED_BASE
from shared.storage.postgres import UNREACHABLE
from tests.chaos.house import ANVIL, NEEDED_TO_SERVE, ChaosHouse
from tests.chaos.job import ON_ANVIL

SAMPLE_S = 0.06
PROBE_S = 0.2


class Job(NamedTuple):
    """A living job that is past the check of its lease. `file` is its job.json: one for each role, ritual and attempt."""

    pid: int
    file: str
    fence: int


class JobWatch(threading.Thread):
    """Samples the jobs of one home in /proc, in a thread of its own."""

    def __init__(self, home: Path) -> None:
        super().__init__(daemon=True)
        self.samples = 0
        self.now: frozenset[Job] = frozenset()
        self.two_fences: list[str] = []
        self.same_job_twice: list[str] = []
        self.started: dict[str, set[int]] = {}  #: pids by job file
        self.longest_gap_s = 0.0
        self._home = str(home)
        self._fences: dict[tuple[str, str], int] = {}
        self._over = threading.Event()

    def run(self) -> None:
        last = monotonic()
        while not self._over.is_set():
            time.sleep(SAMPLE_S)
            self.now = self._living()
            self.samples += 1
            self.longest_gap_s = max(self.longest_gap_s, monotonic() - last)
            last = monotonic()
            for job in self.now:
                self.started.setdefault(job.file, set()).add(job.pid)
            if len(self.now) > 1:
                self._judge(self.now & self._living())

    def stop(self) -> None:
        self._over.set()
        self.join()

    def _judge(self, both: frozenset[Job]) -> None:
        """Two that were seen in two sweeps were alive at one moment between them."""
        seen = "; ".join(f"fence {job.fence}, pid {job.pid}, {job.file}" for job in sorted(both))
        if len({job.fence for job in both}) > 1:
            self.two_fences.append(seen)
        if len({job.file for job in both}) < len(both):
            self.same_job_twice.append(seen)

    def _living(self) -> frozenset[Job]:
        return frozenset(
            job for entry in os.scandir("/proc") if entry.name.isdigit() and (job := self._job(entry.name))
        )

    def _job(self, pid: str) -> Job | None:
        process = Path("/proc", pid)
        try:
            if (process / "comm").read_text().strip() != ON_ANVIL:
                return None
            # A process that has ended has no command line.
            file = (process / "cmdline").read_bytes().rstrip(b"\0").rpartition(b"\0")[2].decode()
            if not file.startswith(self._home):
                return None
            if (pid, file) not in self._fences:
                # Read once: the file may be written again while an earlier job still runs.
                self._fences[pid, file] = json.loads(Path(file).read_bytes())["fence"]
            return Job(int(pid), file, self._fences[pid, file])
        except (OSError, ValueError):
            return None


class InferenceWatch:
    """Measures how long inference is away while no lease is held and the servers that it needs are there."""

    def __init__(self, house: ChaosHouse, jobs: JobWatch, broken: Callable[[], float | None]) -> None:
        """`broken`: None while a fault lasts, else the time of the last one after which serving has to start over."""
        self.longest_s = 0.0
        self.longest_in_sum_s = 0.0  #: outages of servers between are left out, and not begun over after
        self.longest_ended = ""
        self.beside_a_job: list[str] = []
        self.serving = False
        self.probes = 0
        self._house, self._jobs, self._broken = house, jobs, broken
        self._url = f"{house.settings.gateway_url}/v1/chat/completions"
        self._connection: asyncpg.Connection[Any] | None = None

    async def run(self) -> None:
        """Probe until cancelled."""
        since: float | None = None
        last, in_sum = monotonic(), 0.0
        async with httpx.AsyncClient(timeout=2) as client:
            while True:
                await asyncio.sleep(PROBE_S)
                before = self._jobs.now
                self.serving = await self._serves(client)
                self.probes += 1
                if self.serving and (both := before & self._jobs.now):
                    self.beside_a_job.append(str(sorted(both)))
                now = monotonic()
                restart = self._broken()
                due = (
                    restart is not None and all(map(self._house.is_ready, NEEDED_TO_SERVE)) and await self._must_serve()
                )
                if self.serving or not due:
                    in_sum = 0.0 if self.serving else in_sum
                    since = None
                else:
                    assert restart is not None
                    since = max(since or now, restart)
                    in_sum += now - last
                    self.longest_in_sum_s = max(self.longest_in_sum_s, in_sum)
                    self.longest_s = max(self.longest_s, now - since)
                last = now

    async def _serves(self, client: httpx.AsyncClient) -> bool:
        body = {"model": EMBEDDED_BASE, "messages": [{"role": "user", "content": "are you there?"}], "max_tokens": 1}
        with suppress(httpx.HTTPError):
            return (await client.post(self._url, json=body)).status_code == httpx.codes.OK
        return False

    async def _must_serve(self) -> bool:
        """Whether no lease is held, and the rune does not wait after its failures: 1, 2, 4 … 60 s."""
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(
                    self._house.settings.database_url("bootstrap"), timeout=2, command_timeout=2
                )
            return not await self._connection.fetchval(
                "SELECT EXISTS (SELECT FROM lease WHERE anvil = $1 AND ritual IS NOT NULL) OR EXISTS (SELECT FROM "
                "orchestrator.rune_failure WHERE at + least(power(2, count - 1), 60) * interval '1 second' > clock_timestamp())",
                ANVIL,
            )
        except (*UNREACHABLE, asyncpg.PostgresError):
            if self._connection:
                self._connection.terminate()
                self._connection = None
            return False
