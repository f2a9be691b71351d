"""A ritual as `watch` shows it: a line for every fact, on a terminal the running stage below them, and how it ended."""

from __future__ import annotations

from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from deploy.cli.format import duration, short_id, size
from deploy.cli.views.fact_text import end_reason, fact_text, unisolated_jobs
from deploy.cli.views.report import trace_url
from deploy.cli.views.stages import (
    Mark,
    activity,
    inference_outage,
    last_move,
    seconds_in_stage,
    stages,
    unisolated_now,
    wait_reason,
)
from deploy.cli.views.verdict import verdict_view
from shared.contracts.evacuate import GpuEvacuated, GpuInterrupted
from shared.contracts.ritual import State
from shared.contracts.verify import AdapterBanished, Judged

if TYPE_CHECKING:
    from deploy.cli.queries.rituals import Snapshot
    from shared.contracts.intent import RitualProgress
    from shared.ritual.views import RecordedFact, RitualStatus

PROGRESS_EVERY_S = 10.0
WAITING_EVERY_S = 300.0  # the figures of a reason change all the time
WAITED_S = 1.0  # a shorter wait for the anvil is not mentioned
BAR_WIDTH = 12  # a whole line of training fits into 80 columns
MARKS = {
    Mark.DONE: ("✓", "green"),
    Mark.NOW: ("▸", "bold yellow"),
    Mark.FAILED: ("✗", "bold red"),
    Mark.AHEAD: ("·", "dim"),
}
NAMES = {Mark.DONE: "", Mark.NOW: "bold", Mark.FAILED: "bold red", Mark.AHEAD: "dim"}


class LiveView:
    """Prints each fact once. The running stage is redrawn below on a terminal, elsewhere printed at intervals."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._current: RenderableType = Text("")
        self._printed: set[tuple[str, int]] = set()
        self._note = ""
        self._progress = ""
        self._progress_at = float("-inf")
        self._waiting: tuple[str, str] | None = None
        self._waiting_at = float("-inf")
        self._began = False

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def update(self, snapshot: Snapshot, progress: RitualProgress | None) -> None:
        """Show this state of the ritual."""
        self._note = ""
        self._print_facts(snapshot)
        if self._console.is_terminal:
            self._current = current_view(snapshot, progress)
            self._live.update(self._current, refresh=True)
            return
        self._print_waiting(snapshot)
        if progress:
            line = ", ".join([progress_line(progress), *progress_figures(progress)])
            self._print_progress(snapshot.now, f"{progress.job}: {line}")

    def lost(self, note: str) -> None:
        """Show that the state cannot be read now, and why."""
        if self._console.is_terminal:
            self._live.update(Group(self._current, Text(note, "yellow")), refresh=True)
        elif note != self._note:
            self._console.print(note, soft_wrap=True)
        self._note = note

    def _print_facts(self, snapshot: Snapshot) -> None:
        since = snapshot.ritual.created_at
        if not self._began:
            self._print(since, intent_line(snapshot.ritual))
            if unisolated := unisolated_now(snapshot):
                self._print(snapshot.now, unisolated)
            self._began = True
        for recorded in snapshot.facts:
            key = recorded.fact.subject, recorded.fact.attempt
            if key not in self._printed:
                self._printed.add(key)
                self._print(recorded.stated_at, fact_line(recorded, since))
            since = recorded.stated_at

    def _print_waiting(self, snapshot: Snapshot) -> None:
        """Why the anvil is not taken yet: at once where the cause is another, else every WAITING_EVERY_S at most."""
        reason = wait_reason(snapshot.ritual, snapshot.decision)
        if reason is None or snapshot.decision is None:
            self._waiting = None
            return
        waiting = str(snapshot.decision.measures.get("cause", "")), reason
        same_cause = self._waiting is not None and self._waiting[0] == waiting[0]
        if waiting == self._waiting or (same_cause and monotonic() - self._waiting_at < WAITING_EVERY_S):
            return
        self._print(snapshot.now, reason)
        self._waiting, self._waiting_at = waiting, monotonic()

    def _print_progress(self, now: datetime, line: str) -> None:
        if line != self._progress and monotonic() - self._progress_at >= PROGRESS_EVERY_S:
            self._print(now, line)
            self._progress, self._progress_at = line, monotonic()

    def _print(self, moment: datetime, line: str) -> None:
        self._console.print(f"{moment.astimezone():%H:%M:%S}  {line}", soft_wrap=True)


def intent_line(ritual: RitualStatus) -> str:
    """`ritual 6cb89406 intended: train scribe, recipe default, priority 5, by me: it is time`."""
    by = f", by {ritual.intent.requested_by}" if ritual.intent.requested_by else ""
    why = f": {' '.join(ritual.intent.why.split())}" if ritual.intent.why else ""
    refines = f", refines {short_id(ritual.intent.refines)}" if ritual.intent.refines else ""
    wanted = f"train {ritual.persona}, recipe {ritual.intent.recipe_text}, priority {ritual.priority}{refines}"
    return f"ritual {short_id(ritual.id)} intended: {wanted}{by}{why}"


def fact_line(recorded: RecordedFact, since: datetime) -> str:
    """`harvested (0.4 s): 152 to train …`; `since` is when the fact before it was recorded."""
    fact, began = recorded.fact, max(since, recorded.started_at)
    name = recorded.state_after if recorded.moved else fact.subject
    if isinstance(fact, GpuInterrupted):
        name = f"attempt {fact.attempt} interrupted"
    text = fact_text(fact)
    waited_s = (began - since).total_seconds()
    if isinstance(fact, GpuEvacuated) and waited_s > WAITED_S:
        text = f"{text}, after {duration(waited_s)} in the queue"
    return f"{name} ({duration((recorded.stated_at - began).total_seconds())})" + (f": {text}" if text else "")


def current_view(snapshot: Snapshot, progress: RitualProgress | None) -> RenderableType:
    """All stages on one line; below it what the ritual does now, and for how long inference is away."""
    lines: list[RenderableType] = [_stage_line(snapshot)]
    if doing := activity(snapshot):
        seconds = Text(duration(seconds_in_stage(snapshot)), "yellow")
        row = Table.grid(padding=(0, 1))
        row.add_row(seconds, *(_progress_cells(progress) if progress else (Text(doing, "dim"),)))
        lines.append(row)
        if progress and (figures := progress_figures(progress)):
            lines.append(Text(", ".join(figures), "dim"))
    if unisolated_now(snapshot):
        lines.append(Text("jobs run UNISOLATED", "bold red"))  # why is printed once, above
    if outage := inference_outage(snapshot.hand_overs, snapshot.now):
        lines.append(_outage_line(outage.away, outage.seconds))
    return Group(*lines)


def _stage_line(snapshot: Snapshot) -> Text:
    return Text(" ").join(
        Text.assemble(MARKS[stage.mark], " ", (stage.name, NAMES[stage.mark])) for stage in stages(snapshot)
    )


def _progress_cells(progress: RitualProgress) -> tuple[RenderableType, RenderableType]:
    bar = ProgressBar(total=max(progress.total, 1), completed=progress.done, width=BAR_WIDTH)
    return bar, Text(progress_line(progress))


def progress_line(progress: RitualProgress) -> str:
    """`train 45/120 steps, loss 1.234, 231 tokens/s, 1 m 10 s left`."""
    words = f"{progress.phase.replace('_', ' ')} {progress.done}/{progress.total} {progress.unit}"
    if progress.loss is not None:
        words += f", loss {progress.loss:.3f}"
    if progress.tokens_per_s is not None:
        words += f", {progress.tokens_per_s:.0f} tokens/s"
    if progress.eta_s is not None:
        words += f", {duration(progress.eta_s)} left"
    return words


def progress_figures(progress: RitualProgress) -> list[str]:
    """`12,345 tokens`, `dev loss 1.234`, `learning rate 0.0004`, `2.1 GiB`, `1.2 kJ`: what else a training reports."""
    figures = {
        "{:,} tokens": progress.tokens,
        "dev loss {:.3f}": progress.dev_loss,
        "learning rate {:.2g}": progress.learning_rate,
        "{}": None if progress.memory_bytes is None else size(progress.memory_bytes),
        "{:.1f} kJ": None if progress.energy_j is None else progress.energy_j / 1000,
    }
    return [form.format(value) for form, value in figures.items() if value is not None]


def _outage_line(away: bool, seconds: float) -> Text:
    if away:
        return Text(f"inference is suspended for {duration(seconds)} so far", "yellow")
    return Text(f"inference answers again, after {duration(seconds)} without it", "green")


def end_view(snapshot: Snapshot, phoenix_url: str) -> RenderableType:
    """The end of a ritual: its verdict, what serves now, what it cost, and where its trace is."""
    judged = [recorded.fact for recorded in snapshot.facts if isinstance(recorded.fact, Judged)]
    verdicts = (part for fact in judged for part in (Text(""), verdict_view(fact.verdict)))
    trace = Text(f"trace  {trace_url(phoenix_url, snapshot.ritual.trace_id)}", "dim")
    unisolated = [Text(line, "red") for line in unisolated_jobs(snapshot.facts)]
    return Group(*verdicts, Text(""), *_end_lines(snapshot), *unisolated, trace)


def _end_lines(snapshot: Snapshot) -> list[Text]:
    """The final state; green only when the adapter serves."""
    ritual = snapshot.ritual
    whole_s = ((ritual.ended_at or ritual.now) - ritual.created_at).total_seconds()
    outage = inference_outage(snapshot.hand_overs, snapshot.now)
    cost = f"{duration(whole_s)} in all" + (f", {duration(outage.seconds)} without inference" if outage else "")
    if ritual.state is State.AWAKENED:
        hint = Text(f'try it: soulforge ask {ritual.persona} "…"', "dim")
        return [Text.assemble(("awakened", "bold green"), f"  {cost}"), hint]
    lines = [Text.assemble((str(ritual.state), "bold red"), f"  {cost}")]
    last = last_move(snapshot.facts, ritual.state)
    # The reasons of a verdict are shown with it.
    reason = end_reason(last.fact) if last and not isinstance(last.fact, AdapterBanished) else None
    return [*lines, Text(reason, "red")] if reason else lines
