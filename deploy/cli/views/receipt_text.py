"""The receipt of a hand-over as tables: where the time went, every step, and what it found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deploy.cli.format import duration, size
from deploy.cli.views.receipt import Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy.cli.views.receipt import Figures, HandOverReport, PhaseReport, ProbesReport, StepReport

BAR_WIDTH = 60
LONGEST_PART = 28  # longer names of runes and queues are folded
# Distinct without colours, too.
CELLS = {Phase.EVACUATION: ("▒", "yellow"), Phase.WORK: ("█", "cyan"), Phase.RESTORATION: ("░", "green")}
MILLISECONDS_BELOW_S = 0.0995
GOOD, BAD = "green", "red"
# Fields of the report that have words of their own; any other is shown as it is.
WORDED = frozenset({
    "anvil", "fence", "attempt", "began_at", "suspended_at", "evacuated_at", "released_at", "restored_at",
    "memory_before", "memory_after", "memory_restored", "expected_s", "seconds_without_inference",
    "drained", "aborted", "probes", "phases", "steps",
})  # fmt: skip


def receipt_view(row: HandOverReport) -> RenderableType:
    title = Text.assemble(("hand-over  ", "bold"), f"{row.anvil}, fence {row.fence}, attempt {row.attempt}")
    return Group(title, bar(row.phases), _steps(row), _findings(row))


def bar(phases: Sequence[PhaseReport], width: int = BAR_WIDTH) -> Text:
    """A bar of where the time went, in proportion; every phase that took time has a cell."""
    whole = sum(phase.seconds for phase in phases)
    text = Text()
    if whole > 0:
        for phase, cells in zip(phases, shares([phase.seconds for phase in phases], width), strict=True):
            cell, colour = CELLS[phase.name]
            text.append(cell * cells, colour)
    return text


def shares(seconds: Sequence[float], width: int) -> list[int]:
    """The cells of each phase, `width` in all; at least one for a phase that took any time, at the longest one's cost."""
    whole = sum(seconds)
    cells = [max(int(part / whole * width), 1) if part > 0 else 0 for part in seconds]
    longest = max(range(len(seconds)), key=lambda at: seconds[at])
    cells[longest] += width - sum(cells)
    return cells


def _steps(row: HandOverReport) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(max_width=LONGEST_PART, overflow="fold")
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for phase in row.phases:
        cell, colour = CELLS[phase.name]
        began, took = f"{phase.began_at.astimezone():%H:%M:%S}", duration(phase.seconds)
        head = Text.assemble((cell, colour), (f" {phase.name}", "bold"))
        table.add_row(head, "", Text(began, "bold"), Text(took, "bold"), _state(phase, row))
        for step in row.steps:
            if step.phase is phase.name:
                table.add_row(*_step(step, under_way=phase.ended_at is None))
    return table


def _state(phase: PhaseReport, row: HandOverReport) -> Text:
    if phase.ended_at is None:
        return Text("so far", "yellow")
    if phase.name is Phase.EVACUATION and row.evacuated_at is None:
        return Text("never handed over", BAD)
    return Text("")


def _step(step: StepReport, under_way: bool) -> tuple[Text, Text, Text, Text, Text]:
    text = figures(step.detail)
    if step.ended_at is None:
        text = Text("under way", "yellow") if under_way else Text("did not end", BAD)
    if step.tries > 1:
        text = Text(", ").join(part for part in (Text(f"{step.tries} tries", "yellow"), text) if part)
    moment = Text(f"{step.began_at.astimezone():%H:%M:%S}", "dim")
    return Text(f"  {step.step}"), Text(step.part), moment, Text(took(step.seconds)), text


def took(seconds: float | None) -> str:
    """A duration; in milliseconds where it is short, as many steps are."""
    return f"{seconds * 1000:.0f} ms" if seconds is not None and seconds < MILLISECONDS_BELOW_S else duration(seconds)


def figures(detail: Figures) -> Text:
    """What a step found, in words; a figure without words of its own is shown as it is."""
    return Text(", ").join(part for key, value in detail.items() if (part := _figure(key, value)))


def _figure(key: str, value: str | bool | int) -> Text:
    match key, value:
        case "memory", int():
            return Text(f"{size(value)} in use", "dim")
        case "drained", _:
            return Text(f"{value} drained", "dim")
        case (("aborted" | "missing"), 0):
            return Text("")
        case (("aborted" | "missing"), _):
            return Text(f"{value} {key}", BAD)
        case "models", _:
            return Text(f"{value} model{'' if value == 1 else 's'}", "dim")
        case "equal", bool():
            return Text("equal", "dim") if value else Text("not equal", BAD)
        case "closed", bool():
            return Text("") if value else Text("the engine has no way to", "yellow")
        case "manner", _:
            return Text("" if value == "stop" else str(value), "dim")
    return Text(f"{key} {value}", "dim")


def _findings(row: HandOverReport) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("memory", _memory(row))
    if row.drained is not None:
        table.add_row("requests", _requests(row))
    table.add_row("probes", probes(row.probes, over=row.restored_at is not None))
    table.add_row("inference", _away(row))
    for name in sorted(type(row).model_fields.keys() - WORDED):
        if (value := getattr(row, name)) is not None:
            table.add_row(name.replace("_", " "), str(value))
    return table


def _memory(row: HandOverReport) -> str:
    restored = f", {size(row.memory_restored)} restored" if row.memory_restored is not None else ""
    return f"{size(row.memory_before)} → {size(row.memory_after)} in use{restored}"


def _requests(row: HandOverReport) -> Text:
    text = Text(f"{row.drained} drained, ")
    return text.append(f"{row.aborted or 0} aborted", BAD if row.aborted else "")


def probes(report: ProbesReport, over: bool = True) -> Text:
    """Whether the models answer as before, and if not, which do not."""
    if not report.asked or (report.equal is None and over):
        return Text("not asked")
    if report.equal is None:
        return Text(f"not asked again yet; {_models(report.asked)} answered before")
    text = Text(f"{_models(report.asked)} asked: ")
    text.append("equal", GOOD) if report.equal else text.append(f"differs: {', '.join(report.differing)}", BAD)
    if report.missing:
        text.append(f"; missing: {', '.join(report.missing)}", BAD)
    return text


def _models(count: int) -> str:
    return f"{count} model{'' if count == 1 else 's'}"


def _away(row: HandOverReport) -> Text:
    expected = f" ({duration(row.expected_s)} expected)" if row.expected_s is not None else ""
    if row.restored_at is None:
        return Text(f"is not back yet{expected}", "yellow")
    return Text(f"away for {duration(row.seconds_without_inference)}{expected}")
