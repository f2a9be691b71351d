"""A ritual's report as a person reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deploy.cli.durations import duration, size
from deploy.cli.rituals import coloured
from deploy.cli.saying import saying
from deploy.cli.verdict import verdict_view

if TYPE_CHECKING:
    from deploy.cli.report import HandOverReport, RitualReport


def view(report: RitualReport) -> RenderableType:
    parts: list[RenderableType] = [_facts_of(report), Text(""), _states(report)]
    if report.hand_overs:
        parts += [Text(""), *(_hand_over(row) for row in report.hand_overs)]
    if report.decision:
        parts += [Text(""), verdict_view(report.decision, list(report.reasons), report.scores)]
    return Group(*parts)


def _facts_of(report: RitualReport) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("ritual", str(report.ritual))
    table.add_row("persona", report.persona)
    table.add_row("state", f"{coloured(report.state, report.ended_at is not None)} at attempt {report.attempt}")
    if report.reason:
        table.add_row("reason", Text(report.reason, "red"))
    table.add_row(
        "intended",
        f"{report.created_at.astimezone():%Y-%m-%d %H:%M:%S}, {duration(report.seconds)} {'in all' if report.ended_at else 'so far'}",
    )
    table.add_row(
        "intent", Text(", ".join(f"{key} {value}" for key, value in report.intent.items() if value not in (None, "")))
    )
    for name, digest in report.digests.items():
        table.add_row(name, digest)
    if report.version:
        table.add_row("version", report.version)
    if report.counts:
        table.add_row(
            "records", ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in report.counts.items())
        )
    if report.excluded:
        table.add_row("left out", ", ".join(f"{count} {reason}" for reason, count in report.excluded.items()))
    if report.seconds_without_inference is not None:
        table.add_row("inference", f"away for {duration(report.seconds_without_inference)}")
    table.add_row("trace", f"{report.trace_id}\n{report.trace_url}")
    return table


def _states(report: RitualReport) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("stated", "fact", "by", "attempt"):
        table.add_column(name, no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for row in report.states:
        took = (row.stated_at - row.started_at).total_seconds()
        said = Text(saying(row.fact, row.details), "dim")
        table.add_row(
            f"{row.stated_at.astimezone():%H:%M:%S}", row.fact, row.owner, str(row.attempt), duration(took), said
        )
    return table


def _hand_over(row: HandOverReport) -> Text:
    away = (
        f"inference away for {duration(row.seconds_without_inference)}"
        if row.restored_at
        else "inference is not back yet"
    )
    memory = f"{size(row.memory_before)} → {size(row.memory_after)} in use"
    return Text.assemble(
        ("hand-over  ", "bold"), f"{row.anvil}, fence {row.fence}, attempt {row.attempt}: {memory}, {away}"
    )
