"""Training on two workers of Ray Train, in a sandbox: no network but the loopback of its own namespace."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.forge.reconcile import adapter_digest
from shared.contracts.forge import TrainingFigures
from shared.storage.digests import digest_tree
from tests.support.model import needs_jobs
from tests.support.ray_workers import STEPS, Workers

pytestmark = [needs_jobs, pytest.mark.timeout(600)]


async def test_two_workers_make_the_adapter_of_one(tmp_path: Path) -> None:
    workers = Workers(tmp_path)
    alone = workers.alone()

    job = workers.on_ray("two")
    await workers.start(job)
    info, result = await workers.finish(job)

    assert (info.exit_code, result.error) == (0, None)
    assert "network" in info.isolation
    figures = TrainingFigures.model_validate(result.result)
    assert (figures.steps, figures.seen_tokens) == (alone.steps, alone.seen_tokens) == (STEPS, alone.seen_tokens)
    assert figures.dev_loss_before == pytest.approx(alone.dev_loss_before, abs=5e-3)
    assert figures.dev_loss_after == pytest.approx(alone.dev_loss_after, abs=2e-2)
    assert figures.provenance.device.endswith("2 workers")
    assert adapter_digest(job.output) == digest_tree(job.output / "adapter")
