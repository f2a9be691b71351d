"""How a ritual ended, for people: the verdict, what serves now, what it cost, and where its trace is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from deploy.cli.format import duration
from deploy.cli.views.report import VERDICTS, trace_url
from deploy.cli.views.stages import inference, led_to
from deploy.cli.views.verdict import verdict_view
from shared.contracts.ritual import State

if TYPE_CHECKING:
    from deploy.cli.sight import Sight


def ending(sight: Sight, phoenix_url: str) -> RenderableType:
    """Everything that is worth saying once the ritual is over."""
    parts: list[RenderableType] = []
    for fact in sight.facts:
        if fact["subject"] in VERDICTS:
            body = fact["body"]
            parts += [
                Text(""),
                verdict_view(body.get("decision", "?"), body.get("reasons", []), body.get("verdict", {})),
            ]
    return Group(
        *parts, Text(""), *end_lines(sight), Text(f"trace  {trace_url(phoenix_url, sight.ritual['trace_id'])}", "dim")
    )


def end_lines(sight: Sight) -> list[Text]:
    """The final state in words; green only when the adapter serves."""
    ritual, persona = sight.ritual, sight.ritual["persona"]
    whole = duration((ritual["ended_at"] - ritual["created_at"]).total_seconds())
    away = inference(sight.hand_overs, sight.now)
    cost = f"{whole} in all" + (f", {duration(away.seconds)} without inference" if away else "")
    if ritual["state"] == State.AWAKENED:
        return [
            Text.assemble(("awakened", "bold green"), f"  {cost}"),
            Text(f'try it: soulforge ask {persona} "…"', "dim"),
        ]
    lines = [Text.assemble((ritual["state"], "bold red"), f"  {cost}")]
    last = led_to(sight.facts, ritual["state"])
    reason = last and (last["body"].get("reason") or last["body"].get("why"))
    return [*lines, Text(str(reason), "red")] if reason else lines
