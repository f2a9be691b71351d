"""Rituals as tables: the newest ones in a list, and one with all that is known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deploy.cli.format import ago, duration, short_id
from deploy.cli.views.fact_text import fact_text
from deploy.cli.views.receipt_text import receipt_view
from deploy.cli.views.stages import INTERRUPTED, RESUMES, asked_for, error_text, paused_text, shown_state
from deploy.cli.views.verdict import verdict_view
from shared.contracts.ritual import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from deploy.cli.queries.rituals import ListedRitual
    from deploy.cli.views.report import RitualReport, TippingReport
    from shared.ritual.views import RecordedFact

NAMED = 3  # pairs of records that contradict each other


def list_view(rituals: Sequence[ListedRitual]) -> RenderableType:
    """A row for each ritual, and below the table why those that are paused or wait again do so."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)  # all of it fits into 80 columns
    table.add_column("ritual", no_wrap=True)
    table.add_column("persona", overflow="fold")
    table.add_column("state", no_wrap=True)
    for name in ("attempt", "priority", "intended", "took", "without inference"):
        table.add_column(name, justify="right", no_wrap=" " not in name)
    for ritual in rituals:
        table.add_row(*_row(ritual))
    paused = [Text(f"{short_id(ritual.id)} {paused_text(ritual)}", "yellow") for ritual in rituals if ritual.paused]
    interrupted = [_interrupted(ritual) for ritual in rituals if ritual.interruption and not ritual.paused]
    return Group(table, *paused, *interrupted, *error_lines(rituals))


def error_lines(rituals: Iterable[ListedRitual]) -> list[Text]:
    """A line for each open ritual that an error keeps from going on."""
    return [
        Text(f"{short_id(ritual.id)}: {error_text(error, ritual.now)}", "red")
        for ritual in rituals
        for error in ritual.errors
    ]


def _row(ritual: ListedRitual) -> list[str | Text]:
    took_s = ((ritual.ended_at or ritual.now) - ritual.created_at).total_seconds()
    return [
        short_id(ritual.id),
        ritual.persona,
        coloured(shown_state(ritual), ritual.ended_at is not None),
        str(ritual.attempt),
        str(ritual.priority),
        ago(ritual.created_at, ritual.now),
        duration(took_s) + ("" if ritual.ended_at else "…"),
        duration(ritual.seconds_without_inference),
    ]


def _interrupted(ritual: ListedRitual) -> Text:
    assert ritual.interruption is not None
    why = f"{asked_for(ritual.interruption.asked)}: {' '.join(ritual.interruption.reason.split())}"
    return Text(f"{short_id(ritual.id)} was interrupted, {why}; attempt {ritual.attempt} {RESUMES}", "yellow")


def coloured(state: str, ended: bool) -> Text:
    bad = ended and state != State.KEPT
    return Text(state, "green" if state == State.AWAKENED else "red" if bad else "yellow")


def report_view(report: RitualReport, facts: Sequence[RecordedFact]) -> RenderableType:
    """The report of a ritual; `facts` are those that its `states` were made of."""
    parts: list[RenderableType] = [
        _summary(report),
        # On a line of its own, so that it is whole in 80 columns.
        Text(report.trace_url, "dim", overflow="fold"),
        Text(""),
        _states(report, facts),
    ]
    parts += [part for row in report.hand_overs for part in (Text(""), receipt_view(row))]
    if report.scores:
        parts += [Text(""), verdict_view(report.scores)]
    return Group(*parts)


def _summary(report: RitualReport) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("ritual", str(report.ritual))
    table.add_row("persona", report.persona)
    table.add_row("state", _state(report))
    if report.reason:
        table.add_row("reason", Text(report.reason, "red"))
    if report.suggested:
        table.add_row("suggested", Text(report.suggested.text))
    for error in report.errors:
        table.add_row("error", Text(error, "red"))
    for line in report.unisolated:
        table.add_row("isolation", Text(line, "red"))
    if report.paused_at:
        why = f": {report.paused_why}" if report.paused_why else ""
        table.add_row("paused", Text(f"since {report.paused_at.astimezone():%Y-%m-%d %H:%M:%S}{why}", "yellow"))
    if report.tipping:
        table.add_row("anvil", _tipping(report.tipping, waits=report.state == State.HARVESTED))
    table.add_row(
        "intended",
        f"{report.created_at.astimezone():%Y-%m-%d %H:%M:%S}, {duration(report.seconds)} {'in all' if report.ended_at else 'so far'}",
    )
    table.add_row("intent", Text(", ".join(f"{key} {value}" for key, value in _given(report.intent).items())))
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
    if report.contradictions:
        table.add_row("contradictions", Text(_contradictions(report.contradictions), "yellow"))
    if report.seconds_without_inference is not None:
        table.add_row("inference", f"away for {duration(report.seconds_without_inference)}")
    table.add_row("trace", report.trace_id)
    return table


def _given(intent: dict[str, Any]) -> dict[str, Any]:
    """What an intent states, with the values that it takes in place of the recipe's."""
    values = {**intent, **(intent.get("overrides") or {}), "overrides": None}
    return {key: value for key, value in values.items() if value not in (None, "", [])}


def _contradictions(pairs: Sequence[tuple[str, str]]) -> str:
    named = ", ".join(f"{one} and {other}" for one, other in pairs[:NAMED])
    more = f", and {len(pairs) - NAMED} more" if len(pairs) > NAMED else ""
    return f"{len(pairs)} of used records, left out of preferences: {named}{more}; correct or reject one of each"


def _state(report: RitualReport) -> Text:
    """The state for people: a ritual that waits after an interruption is interrupted, which is no failure."""
    if (found := report.interrupted) is None:
        return Text.assemble(coloured(report.state, report.ended_at is not None), f" at attempt {report.attempt}")
    why = f", {asked_for(found.asked)}: {found.reason}\nwaits for the anvil; attempt {report.attempt} {RESUMES}"
    return Text.assemble((INTERRUPTED, "yellow"), f" at attempt {found.attempt}", why)


def _tipping(tipping: TippingReport, waits: bool) -> Text:
    """Why the ritual does not take the anvil yet, or why it took it when it did."""
    decided = f" ({tipping.decided_at.astimezone():%H:%M:%S})"
    text = Text.assemble((tipping.reason, "yellow" if waits else ""), (decided, "dim"))
    if waits and (figures := ", ".join(_figure(*measure) for measure in tipping.measures.items() if _shown(*measure))):
        text.append(f"\n{figures}", "dim")
    return text


def _shown(name: str, value: Any) -> bool:
    """Whether a measure is shown: `cause` and `now` are part of the reason, and some could not be measured."""
    return value is not None and name not in ("cause", "now")


def _figure(name: str, value: Any) -> str:
    if name.endswith("_s") and isinstance(value, int | float):
        return f"{name.removesuffix('_s').replace('_', ' ')} {duration(value)}"
    return f"{name.replace('_', ' ')} {value:.3g}" if isinstance(value, float) else f"{name.replace('_', ' ')} {value}"


def _states(report: RitualReport, facts: Sequence[RecordedFact]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("stated", "fact", "by", "attempt"):
        table.add_column(name, no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for row, recorded in zip(report.states, facts, strict=True):
        took = duration((row.stated_at - row.started_at).total_seconds())
        text = Text(fact_text(recorded.fact), "dim")
        table.add_row(f"{row.stated_at.astimezone():%H:%M:%S}", row.fact, row.owner, str(row.attempt), took, text)
    return table
