"""Records of jobs: a file is open only while a job has more of it to hand over."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.gateway.jobs import bus
from services.gateway.jobs.records import AT_ONCE, Records
from tests.support.fine_tuning import examples
from tests.unit.gateway.test_file_samples import stored

COUNT = AT_ONCE + 10


def job(id: str, published: int) -> Any:
    return SimpleNamespace(
        id=id, published=published, records=COUNT, persona="scribe", vouched_by=None, created_at=None
    )


def count_open(path: Path) -> int:
    return [link.resolve() for link in Path("/proc/self/fd").iterdir()].count(path)


async def test_a_file_is_closed_once_all_is_handed_over_and_when_its_job_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def publish(*_: object) -> None:
        pass

    monkeypatch.setattr(bus, "publish", publish)
    file, records = stored(tmp_path / "file", examples(COUNT)), Records(None)  # type: ignore[arg-type]

    for id in ("a", "b"):
        assert await records.publish_some(job(id, 0), [file]) == AT_ONCE
    assert count_open(file.path) == 2
    assert await records.publish_some(job("a", AT_ONCE), [file]) == COUNT
    assert count_open(file.path) == 1
    records.keep_only({"a"})
    assert count_open(file.path) == 0
