"""The GPU check, as far as it needs no device: what is brought along, and what is made of figures."""

from __future__ import annotations

import re
from pathlib import Path
from zipfile import ZipFile

import pytest

from shared.contracts.job import Progress
from tools.gpu_check.report import Report, Run, steady_rate, table
from tools.gpu_check.wheels import BROUGHT, pinned, slim, unused

RAN = Run(
    base="8B",
    engine="trl",
    method="lora",
    seconds=41.4,
    tokens_per_s=1234.5,
    peak_bytes=3 * 2**29,
    estimated_bytes=2**30,
    losses=(11.9, 9.5),
)


def step(done: int, tokens: int, tokens_per_s: float) -> Progress:
    return Progress(phase="train", done=done, total=3, unit="steps", tokens=tokens, tokens_per_s=tokens_per_s)


def test_the_first_step_is_left_out_of_the_rate() -> None:
    # 10 s for the first 100 tokens, 1 s for each further hundred.
    assert steady_rate([step(1, 100, 10.0), step(2, 200, 200 / 11), step(3, 300, 25.0)]) == 100.0
    assert steady_rate([step(1, 100, 10.0)]) is None


def test_the_table_has_a_run_that_failed_with_its_reason() -> None:
    failed = Run(base="8B", engine="unsloth", method="qlora", seconds=3, fault="no memory | at all\nTraceback")

    lines = table(Report(date="2026-11-27", device="a card", runs=(RAN, failed))).splitlines()

    assert lines[0] == "### 2026-11-27, a card"
    assert "| 8B | trl | lora | 1234.5 | 1.50 | 1.00 | 11.90 → 9.50 | 41 |" in lines
    assert "| 8B | unsloth | qlora | - | - | - | no memory / at all | 3 |" in lines


@pytest.mark.parametrize("environment", BROUGHT)
def test_what_is_brought_has_the_version_of_its_lock(environment: str) -> None:
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", package) for package in pinned(environment, BROUGHT[environment]))


def test_a_wheel_is_made_smaller_with_its_list_of_files(tmp_path: Path) -> None:
    wheel = tmp_path / "bitsandbytes-1-py3-none-any.whl"
    names = [
        f"bitsandbytes/{name}"
        for name in ("nn.py", *map("libbitsandbytes_{}.so".format, ("cpu", "cuda130", "cuda128")))
    ]
    with ZipFile(wheel, "w") as whole:
        for name in names:
            whole.writestr(name, "x" * 100)
        whole.writestr("bitsandbytes-1.dist-info/RECORD", "".join(f"{name},,\n" for name in names))

    slim(wheel, unused("130")["bitsandbytes"])

    with ZipFile(wheel) as part:
        assert set(part.namelist()) == {*names[:-1], "bitsandbytes-1.dist-info/RECORD"}
        assert part.read("bitsandbytes-1.dist-info/RECORD").decode() == "".join(f"{name},,\n" for name in names[:-1])
