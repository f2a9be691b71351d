"""Compare the estimated with the measured memory of trainings: `python -m bench.memory [WORD …]`.

Each training runs 24 steps in a process of its own. WORDs choose those whose names have all of them. The memory above
the idle process is compared: the estimate is to be within 20 % of the peak, and never below it by more than 10 %.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.memory.configurations import SETTINGS, Setting
from shared.config.settings import PROJECT
from shared.config.tables import EMBEDDED_BASE, JobsConfig
from shared.contracts.forge import MemoryFigures
from shared.jobs.runner import job_environment

MODELS = Path(os.environ.get("SOULFORGE_MODELS", PROJECT / ".cache" / "models"))
MIB = 1024**2
MOST_OVER, MOST_UNDER = 0.2, 0.1


def main(words: list[str]) -> int:
    """Print the table; returns 1 where an estimate is further off than it may be."""
    chosen = [setting for setting in SETTINGS if all(word in setting.name for word in words)]
    with tempfile.TemporaryDirectory(prefix="soulforge-bench-") as folder:
        measured = {setting.name: _measure(setting, Path(folder)) for setting in chosen}
    errors = {name: _error(figures) for name, figures in measured.items()}
    mean = sum(map(abs, errors.values())) / len(errors)
    print(
        f"{len(errors)} trainings: {mean:.0%} off in the mean, {min(errors.values()):+.0%} to {max(errors.values()):+.0%}"
    )
    return int(min(errors.values()) < -MOST_UNDER or max(errors.values()) > MOST_OVER)


def _measure(setting: Setting, folder: Path) -> MemoryFigures:
    figures = MemoryFigures.model_validate_json(_run(setting.model_dump_json(), _base(setting.base, folder)))
    terms = " ".join(f"{name} {value // MIB}" for name, value in figures.terms.items())
    above = (figures.peak - figures.idle) // MIB
    estimate = (figures.estimated - figures.idle) // MIB
    print(
        f"| {setting.name} | {figures.idle // MIB} | {estimate} | {above} | {_error(figures):+.0%} | {terms} |",
        flush=True,
    )
    return figures


def _error(figures: MemoryFigures) -> float:
    return sum(figures.terms.values()) / (figures.peak - figures.idle) - 1


def _base(name: str, folder: Path) -> Path:
    if name == EMBEDDED_BASE:
        return MODELS / name
    if not (folder / name).exists():
        _run("--make", name, MODELS / EMBEDDED_BASE, folder / name)
    return folder / name


def _run(*arguments: str | Path) -> str:
    """The last line that a process of the jobs' environment prints. Exits with its errors where it fails."""
    with tempfile.TemporaryDirectory(prefix="soulforge-bench-") as output:
        (Path(output) / "tmp").mkdir()
        command = [JobsConfig().environment().python, "-m", "bench.memory.run", *map(str, arguments), output]
        ended = subprocess.run(
            command, env=job_environment(Path(output), PROJECT), capture_output=True, text=True, check=False
        )
    if ended.returncode:
        sys.exit(ended.stderr)
    return ended.stdout.splitlines()[-1] if ended.stdout else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
