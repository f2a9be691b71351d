"""The spans of a fact: how isolated its job was is an attribute of the stage and of the job."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from shared.runtime.telemetry import fact_spans

NOW = datetime(2026, 11, 21, tzinfo=UTC)
KEY = "soulforge.job.isolation"


def forged(isolation: list[str]) -> dict[str, Any]:
    """A row of the ledger."""
    names = {"owner": "forge", "subject": "adapter.forged", "step": "forge", "persona": "scribe", "attempt": 1}
    states = {"state_before": "evacuated", "state_after": "forged", "started_at": NOW, "stated_at": NOW}
    body = {"isolation": isolation, "spans": [{"name": "train", "start_ns": 1, "end_ns": 2}]}
    return {**names, **states, "event_id": uuid4(), "ritual": uuid4(), "trace_id": uuid4().hex, "body": body}


@pytest.mark.parametrize(
    ("isolation", "shown"),
    [
        (["network", "filesystem", "pid"], "network, filesystem, pid"),
        (["process-group", "environment"], "UNISOLATED: only process-group, environment"),
        (["filesystem", "pid"], "UNISOLATED: only filesystem, pid"),
        ([], None),
    ],
)
def test_the_isolation_of_a_job_is_in_its_trace(isolation: list[str], shown: str | None) -> None:
    stage, job, step = fact_spans(forged(isolation))
    assert (stage.name, job.name, step.name) == ("forge.forge", "trainer", "trainer.train")
    assert [(span.attributes or {}).get(KEY) for span in (stage, job)] == [shown, shown]
