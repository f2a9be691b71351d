"""How a ritual looks: its way as a live picture on a terminal, or as one line for each transition elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from deploy.cli.format import duration, short_id
from deploy.cli.views.stages import INTERRUPTED, Mark, Stage, asked_for, inference, interruption, stages, was_asked

if TYPE_CHECKING:
    from deploy.cli.sight import Sight
    from shared.contracts.intent import RitualProgress

MARKS = {
    Mark.DONE: Text("✓", "green"),
    Mark.NOW: Text("▸", "bold yellow"),
    Mark.BROKEN: Text("✗", "bold red"),
    Mark.AHEAD: Text("·", "dim"),
}
NAMES = {Mark.DONE: "", Mark.NOW: "bold", Mark.BROKEN: "bold red", Mark.AHEAD: "dim"}
BAR_WIDTH = 12  # a whole line of training fits into 80 columns
NAME_WIDTH = 10


def picture(sight: Sight, progress: RitualProgress | None = None, note: str = "") -> RenderableType:
    """The whole way, as it stands now."""
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(min_width=NAME_WIDTH)
    table.add_column(justify="right", min_width=8, no_wrap=True)
    table.add_column(overflow="fold")
    for stage in stages(sight.ritual, sight.facts, sight.hand_overs, sight.now, sight.tipping):
        table.add_row(MARKS[stage.mark], Text(stage.name, NAMES[stage.mark]), _took(stage), _told(stage, progress))
    lines: list[RenderableType] = [title(sight), table]
    if away := inference_line(sight):
        lines.append(away)
    if note:
        lines.append(Text(note, "yellow"))
    return Group(*lines)


def title(sight: Sight) -> Text:
    ritual = sight.ritual
    text = Text.assemble(("ritual ", "bold"), (short_id(ritual["id"]), "bold cyan"), f" · {ritual['persona']}")
    if ritual["attempt"] > 1:
        text.append(f" · attempt {ritual['attempt']}", "yellow")
    if interruption(ritual, sight.facts):
        text.append(f" · {INTERRUPTED}", "bold yellow")
    for fact in sight.facts:
        if fact["subject"] == "gpu.interrupted":
            asked = asked_for(was_asked(fact["body"]))
            reason = fact["body"].get("reason", "")
            text.append(f"\nattempt {fact['attempt']} was interrupted, {asked}: {reason}", "yellow")
    return text


def inference_line(sight: Sight) -> Text | None:
    """Whether inference is away for this ritual, and for how long."""
    found = inference(sight.hand_overs, sight.now)
    if found is None:
        return None
    if found.away:
        return Text(f"inference is suspended for {duration(found.seconds)} so far", "yellow")
    return Text(f"inference answers again, after {duration(found.seconds)} without it", "green")


def progress_line(progress: RitualProgress) -> str:
    """`train 45/120 steps, loss 1.234, 1 m 10 s left`."""
    words = f"{progress.phase.replace('_', ' ')} {progress.done}/{progress.total} {progress.unit}"
    if progress.loss is not None:
        words += f", loss {progress.loss:.3f}"
    if progress.eta_s is not None:
        words += f", {duration(progress.eta_s)} left"
    return words


def _took(stage: Stage) -> Text:
    if stage.seconds is None:
        return Text("")
    return Text(duration(stage.seconds), "yellow" if stage.mark is Mark.NOW else "dim")


def _told(stage: Stage, progress: RitualProgress | None) -> RenderableType:
    if stage.mark is not Mark.NOW or progress is None:
        return Text(stage.text, "" if stage.mark is Mark.BROKEN else "dim")
    row = Table.grid(padding=(0, 1))
    row.add_row(
        ProgressBar(total=max(progress.total, 1), completed=progress.done, width=BAR_WIDTH),
        Text(progress_line(progress)),
    )
    return row
