"""What a job leaves behind, however it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.contracts.job import JobResult, Progress
from shared.jobs.result_writer import InputError, Interrupted, ResultWriter

LAST = Progress(phase="train", done=2, total=2, unit="steps")

REFUSED = "[enforce fail at alloc_cpu.cpp:130] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."


class OutOfMemoryError(RuntimeError):
    """As torch names its own, which is not installed here."""


def written(output: Path) -> JobResult:
    return JobResult.model_validate_json((output / "result.json").read_text())


def test_the_result_appears_whole_and_last(tmp_path: Path) -> None:
    writer = ResultWriter(tmp_path)
    writer.progress(Progress(phase="train", done=1, total=2, unit="steps", loss=0.5))
    with writer.span("train"):
        assert not (tmp_path / "result.json").exists()
    writer.write(JobResult(ok=True))
    assert [span.name for span in written(tmp_path).spans] == ["train"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["progress.jsonl", "result.json"]


@pytest.mark.parametrize(
    ("ends", "status", "result"),
    [
        (None, 0, JobResult(ok=True, result=LAST.model_dump())),
        (InputError("no rows"), 1, JobResult(ok=False, error="no rows", permanent=True)),
        (Interrupted("asked to stop"), 75, JobResult(ok=False, error="asked to stop", interrupted=True)),
        (ValueError("seven"), 1, JobResult(ok=False, error="ValueError: seven")),
        (MemoryError("full"), 1, JobResult(ok=False, error="MemoryError: full", out_of_memory=True)),
        (OutOfMemoryError("Tried to"), 1, JobResult(ok=False, error="OutOfMemoryError: Tried to", out_of_memory=True)),
        (RuntimeError(REFUSED), 1, JobResult(ok=False, error=f"RuntimeError: {REFUSED}", out_of_memory=True)),
    ],
    ids=["done", "bad input", "interrupted", "anything else", "no memory", "none of the device", "none for torch"],
)
def test_every_end_of_the_work_is_a_result_and_an_exit_status(
    tmp_path: Path, ends: BaseException | None, status: int, result: JobResult
) -> None:
    def work() -> Progress:
        if ends:
            raise ends
        return LAST

    assert ResultWriter(tmp_path).run(work) == status
    assert written(tmp_path) == result
