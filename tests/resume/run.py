"""Interrupt training at random moments, and compare the adapters with an uninterrupted run's: `python -m tests.resume.run`.

A run is stopped (SIGTERM, which must end within the grace time) or killed (SIGKILL) at a moment drawn over the length of a
whole run, and resumed from its last checkpoint, until one attempt comes through; then the next run begins.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic

from services.forge.job import CHECKPOINTS_DIR, IDENTITY_FILE, TrainerJob
from shared.contracts.job import EXIT_INTERRUPTED
from shared.jobs.runner import STOP_GRACE_S
from tests.support.training import ROWS, finish, planned, progress, row, start, write_manifest

SIGNALS = (signal.SIGTERM, signal.SIGKILL)
COMPARED = ("adapter", "checkpoints", "taken", "seen_tokens", "dev_loss_before", "dev_loss_after")


class Differs(Exception):
    """An interrupted run did not end as the uninterrupted one."""


class Interrupter:
    """Draws the moments, and counts them down."""

    def __init__(self, moments: int, seed: int) -> None:
        self.left, self._moments, self._random = moments, moments, random.Random(seed)

    def interrupt(self, job: TrainerJob, process: subprocess.Popen[bytes], length_s: float) -> bool:
        """Interrupt the job at the next moment; False where there is none left, or the job ended before it."""
        if not self.left:
            return False
        after_s, number = self._random.uniform(0, length_s), self._random.choice(SIGNALS)
        try:
            process.wait(after_s)
            return False
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        asked_at = monotonic()
        status = process.wait(STOP_GRACE_S)
        self.left -= 1
        lines = progress(job)
        at = f"{lines[-1].phase} {lines[-1].done}/{lines[-1].total}" if lines else "start"
        took = monotonic() - asked_at
        print(f"{self._moments - self.left:3} {number.name} after {after_s:5.1f} s at {at}, ended in {took:.1f} s")
        # A job that has not set its handler yet is ended by the signal itself; one that is saving comes through.
        if number is signal.SIGTERM and status not in (EXIT_INTERRUPTED, -signal.SIGTERM, 0):
            raise Differs(f"the stopped job ended with {status}: {(job.output / 'stderr').read_text()[-2000:]}")
        return True


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.resume.run", description=__doc__)
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soulforge-resume-") as folder:
        try:
            return _compare(Path(folder), Interrupter(given.moments, given.seed))
        except Differs as error:
            print(error)
            return 1


def _compare(folder: Path, interrupter: Interrupter) -> int:
    manifest = folder / "manifest"
    digest = write_manifest(manifest, [row(number) for number in range(ROWS)], [row(77)])
    began = monotonic()
    whole = planned(manifest, digest, folder / "whole")
    _, expected = finish(whole, start(whole))
    length_s = monotonic() - began
    print(f"the uninterrupted run took {length_s:.1f} s")
    runs = 0
    while interrupter.left:
        runs += 1
        attempt, resume = 0, None
        while True:
            attempt += 1
            output = folder / f"run-{runs}-{attempt}"
            job = planned(manifest, digest, output, attempt=attempt, resume_from=resume)
            process = start(job)
            if not interrupter.interrupt(job, process, length_s) or process.returncode == 0:
                break
            if any((output / CHECKPOINTS_DIR).glob(f"*/{IDENTITY_FILE}")):
                resume = output / CHECKPOINTS_DIR
        status, result = finish(job, process)
        if status or (differs := [name for name in COMPARED if result.result[name] != expected.result[name]]):
            raise Differs(f"run {runs} differs after {attempt} attempts: {result.error or differs}")
        print(
            f"    run {runs} came through after {attempt} attempts, from step {result.result['resumed_at']}: the same"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
