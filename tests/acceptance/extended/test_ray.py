"""A run on two workers of Ray Train that is stopped, and one that loses a worker: the next attempt goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.forge.job import CHECKPOINTS_DIR
from shared.contracts.forge import TrainingFigures
from shared.contracts.job import EXIT_INTERRUPTED
from tests.support.model import needs_jobs
from tests.support.ray_workers import EVERY, STEPS, Workers, kill_a_worker

pytestmark = [needs_jobs, pytest.mark.extended, pytest.mark.timeout(900)]


async def test_a_killed_worker_ends_the_job_and_the_next_attempt_makes_the_adapter_of_one_worker(
    tmp_path: Path,
) -> None:
    workers = Workers(tmp_path)
    alone = workers.alone()
    first = workers.on_ray("first")
    await workers.start(first)
    await workers.wait_for_step(first, EVERY + 2)

    kill_a_worker(first)

    _, lost = await workers.finish(first)
    assert (lost.ok, lost.permanent, lost.interrupted) == (False, False, False)
    second = workers.on_ray("second", attempt=2, resume_from=first.output / CHECKPOINTS_DIR)
    await workers.start(second)
    info, result = await workers.finish(second)
    assert (info.exit_code, result.error) == (0, None)
    figures = TrainingFigures.model_validate(result.result)
    assert EVERY <= figures.resumed_at < STEPS
    assert (figures.steps, figures.seen_tokens) == (alone.steps, alone.seen_tokens)
    assert figures.dev_loss_after == pytest.approx(alone.dev_loss_after, abs=2e-2)


async def test_a_run_that_is_asked_to_stop_leaves_a_checkpoint(tmp_path: Path) -> None:
    workers = Workers(tmp_path)
    job = workers.on_ray("stopped")
    await workers.start(job)
    await workers.wait_for_step(job, EVERY + 2)

    await workers.stop(job)

    info, result = await workers.finish(job)
    assert (info.exit_code, result.interrupted) == (EXIT_INTERRUPTED, True), result.error
    assert "a checkpoint was saved" in (result.error or "")
