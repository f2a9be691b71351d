"""A ritual's report as a person reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deploy.cli.format import ago, duration, short_id
from deploy.cli.views.fact_text import saying
from deploy.cli.views.receipt_text import receipt_view
from deploy.cli.views.stages import INTERRUPTED, RESUMES, asked_for, shown_state, was_asked
from deploy.cli.views.verdict import verdict_view
from shared.contracts.ritual import State

if TYPE_CHECKING:
    from deploy.cli.views.report import RitualReport, TippingReport


def view(report: RitualReport) -> RenderableType:
    parts: list[RenderableType] = [
        _facts_of(report),
        # On a line of its own, so that it is whole in 80 columns.
        Text(report.trace_url, "dim", overflow="fold"),
        Text(""),
        _states(report),
    ]
    if report.hand_overs:
        parts += [part for row in report.hand_overs for part in (Text(""), receipt_view(row))]
    if report.decision:
        parts += [Text(""), verdict_view(report.decision, list(report.reasons), report.scores)]
    return Group(*parts)


def _facts_of(report: RitualReport) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("ritual", str(report.ritual))
    table.add_row("persona", report.persona)
    table.add_row("state", _state(report))
    if report.reason:
        table.add_row("reason", Text(report.reason, "red"))
    if report.tipping:
        table.add_row("anvil", _tipping(report.tipping, waits=report.state == State.HARVESTED))
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
    table.add_row("trace", report.trace_id)
    return table


def _state(report: RitualReport) -> str | Text:
    """One that waits after an interruption is interrupted, which is no failure."""
    if (found := report.interrupted) is None:
        return f"{coloured(report.state, report.ended_at is not None)} at attempt {report.attempt}"
    why = f", {asked_for(found.asked)}: {found.reason}\nwaits for the anvil; attempt {report.attempt} {RESUMES}"
    return Text.assemble((INTERRUPTED, "yellow"), f" at attempt {found.attempt}", why)


def _tipping(tipping: TippingReport, waits: bool) -> Text:
    """Why it does not take the anvil yet, or why it took it when it did."""
    decided = f" ({tipping.decided_at.astimezone():%H:%M:%S})"
    said = Text.assemble((tipping.reason, "yellow" if waits else ""), (decided, "dim"))
    if waits and (figures := ", ".join(_figure(*measure) for measure in tipping.measures.items() if _tells(*measure))):
        said.append(f"\n{figures}", "dim")
    return said


def _tells(name: str, value: Any) -> bool:
    """`cause` and `now` stand in the reason; what could not be measured tells nothing."""
    return value is not None and name not in ("cause", "now")


def _figure(name: str, value: Any) -> str:
    if name.endswith("_s") and isinstance(value, int | float):
        return f"{name.removesuffix('_s').replace('_', ' ')} {duration(value)}"
    return f"{name.replace('_', ' ')} {value:.3g}" if isinstance(value, float) else f"{name.replace('_', ' ')} {value}"


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


def listing(rows: list[dict[str, Any]]) -> RenderableType:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)  # all of it stands in 80 columns
    table.add_column("ritual", no_wrap=True)
    table.add_column("persona", overflow="fold")
    table.add_column("state", no_wrap=True)
    for name in ("attempt", "priority", "intended", "took", "without inference"):
        table.add_column(name, justify="right", no_wrap=" " not in name)
    for row in rows:
        table.add_row(*_row(row))
    return Group(table, *(_interrupted(row) for row in rows if row["interruption"] is not None))


def coloured(state: str, ended: bool) -> str:
    colour = "green" if state == "awakened" else "red" if ended else "yellow"
    return f"[{colour}]{state}[/]"


def _row(row: dict[str, Any]) -> list[str]:
    took = ((row["ended_at"] or row["now"]) - row["created_at"]).total_seconds()
    return [
        short_id(row["id"]),
        row["persona"],
        coloured(shown_state(row), row["ended_at"] is not None),
        str(row["attempt"]),
        str(row["priority"]),
        ago(row["created_at"], row["now"]),
        duration(took) + ("" if row["ended_at"] else "…"),
        duration(row["seconds_without_inference"]),
    ]


def _interrupted(row: dict[str, Any]) -> Text:
    why = f"{asked_for(was_asked(row['interruption']))}: {row['interruption'].get('reason', '')}"
    return Text(f"{short_id(row['id'])} was interrupted, {why}; attempt {row['attempt']} {RESUMES}", "yellow")
