"""The figures of a check of the forge, and their table."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from shared.contracts.forge import EngineName
from shared.contracts.frozen import Frozen
from shared.contracts.job import Progress
from shared.storage.untrusted import GIB


class Run(Frozen):
    """One measured run. `tokens_per_s` leaves out the first step, which compiles; `fault` is why there are no figures."""

    base: str
    engine: EngineName
    method: str
    seconds: float = Field(description="Of the whole job, with imports and loading.")
    tokens_per_s: float | None = None
    peak_bytes: int | None = Field(None, description="Reserved on the device; resident where there is none.")
    estimated_bytes: int | None = Field(None, description="What the run was estimated to take, before its first step.")
    losses: tuple[float, ...] = Field((), description="Nats per trained token, of each step.")
    device: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    fault: str = ""


class Report(Frozen):
    """All runs of a day on one device."""

    date: str
    device: str
    runs: tuple[Run, ...]


def steady_rate(steps: Sequence[Progress]) -> float | None:
    """Tokens per second of all steps but the first; None where there is no second one."""
    seen = [(step.tokens, step.tokens / step.tokens_per_s) for step in steps if step.tokens and step.tokens_per_s]
    if len(seen) < 2:
        return None
    (first, from_s), (last, to_s) = seen[0], seen[-1]
    return round((last - first) / (to_s - from_s), 1)


def line(run: Run) -> str:
    """A run for the terminal."""
    name = f"{run.base} {run.engine} {run.method}"
    if run.fault:
        return f"{name}: {run.fault}"
    memory = f"{_gib(run.peak_bytes)} GiB (estimated {_gib(run.estimated_bytes)})"
    return f"{name}: {run.tokens_per_s} tokens/s, {memory}, loss {_course(run)}, {run.seconds:.0f} s"


def table(report: Report) -> str:
    """The report in Markdown, as docs/gpu.md keeps it."""
    columns = ("base", "engine", "method", "tokens/s", "peak GiB", "estimate", "loss, first to last step", "job s")
    head = f"### {report.date}, {report.device}\n\n| {' | '.join(columns)} |\n{'|---' * len(columns)}|\n"
    rows = [
        f"| {run.base} | {run.engine} | {run.method} | {run.tokens_per_s or '-'} | {_gib(run.peak_bytes)} | "
        f"{_gib(run.estimated_bytes)} | "
        f"{_course(run) or first_line(run.fault)} | {run.seconds:.0f} |\n"
        for run in report.runs
    ]
    versions = {
        run.engine: ", ".join(f"{name} {version}" for name, version in run.versions.items()) for run in report.runs
    }
    names = [f"- {engine}: {named}\n" for engine, named in versions.items() if named]
    return f"{head}{''.join(rows)}\n{''.join(names)}"


def first_line(text: str) -> str:
    return text.partition("\n")[0].replace("|", "/")


def _course(run: Run) -> str:
    return f"{run.losses[0]:.2f} → {run.losses[-1]:.2f}" if run.losses else ""


def _gib(size: int | None) -> str:
    return "-" if size is None else f"{size / GIB:.2f}"
