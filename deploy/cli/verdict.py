"""The verdict as tables: both arms with their intervals, what the difference is and what was needed.

It is read as it was stated, field by field: a verdict of another version shows what it has.
"""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

Part = dict[str, Any]

COLOURS = {"promote": "bold green", "banish": "bold red", "inconclusive": "bold yellow"}
ABSENT = "–"


def verdict_view(decision: str, reasons: list[str], verdict: Part) -> RenderableType:
    """Decision, reasons and scores of `adapter.verified` or `adapter.banished`."""
    title = Text.assemble(("verdict  ", "bold"), (decision, COLOURS.get(decision, "bold")))
    said = [Text(f"  {reason}", "default") for reason in reasons]
    return Group(title, *said, Text(""), scores(verdict), *kinds(verdict))


def scores(verdict: Part) -> Table:
    """One row per side of the evidence."""
    table = Table(box=None, pad_edge=True, header_style="bold")
    table.add_column("")
    for name in ("base", "candidate", "difference", "needed"):
        table.add_column(name, justify="right")
    target, logic = verdict.get("target") or {}, verdict.get("base_logic") or {}
    policy = verdict.get("policy") or {}
    if target.get("candidate"):
        gain = target.get("rule_gain") or {}
        table.add_row(
            "persona, by rule",
            arm(target.get("base")),
            arm(target["candidate"]),
            bounded(gain),
            least(policy.get("min_gain"), 100),
        )
    if target.get("nll_candidate") is not None:
        gain = target.get("nll_gain") or {}
        needed = least(policy.get("min_nll_gain"), 1) if target.get("metric") == "nll" else ABSENT
        table.add_row(
            "persona, NLL gain",
            number(target.get("nll_base")),
            number(target["nll_candidate"]),
            bounded(gain, 1),
            needed,
        )
    if logic.get("candidate"):
        margin = f"no drop of {logic['margin'] * 100:.0f}" if "margin" in logic else ABSENT
        table.add_row("base logic", arm(logic.get("base")), arm(logic["candidate"]), dropped(logic), margin)
    return table


def kinds(verdict: Part) -> list[RenderableType]:
    """What flipped, and the base-logic suite kind by kind."""
    logic = verdict.get("base_logic") or {}
    lost, won = logic.get("lost"), logic.get("won")
    if lost is None or won is None:
        return []
    text = f"  base logic: {len(lost)} flipped right to wrong, {len(won)} wrong to right, of {logic.get('items', '?')} items"
    if "minimum_detectable_drop" in logic:
        text += f"; a drop of {logic['minimum_detectable_drop'] * 100:.1f} points is detectable"
    sealed = verdict.get("target") or {}
    held_out = (
        f"  persona: {sealed['items']} sealed items of {sealed.get('sessions', '?')} sessions"
        if "items" in sealed
        else ""
    )
    return [Text(line, "dim") for line in ("", text, held_out) if line or not text]


def arm(score: Part | None) -> str:
    """`84.2 % (70–93)`: the share of right answers with its two-sided interval."""
    if not score or "share" not in score:
        return ABSENT
    interval = score.get("interval") or {}
    text = f"{score['share'] * 100:.1f} %"
    return (
        f"{text} ({interval['low'] * 100:.0f}–{interval['high'] * 100:.0f})"
        if {"low", "high"} <= interval.keys()
        else text
    )


def bounded(gain: Part, scale: float = 100) -> str:
    """`+84.2 (≥ +71.1)`: a gain with its lower bound; in points of 100, or as it is."""
    if gain.get("mean") is None:
        return ABSENT
    digits = 1 if scale > 1 else 3
    text = f"{gain['mean'] * scale:+.{digits}f}"
    return f"{text} (≥ {gain['low'] * scale:+.{digits}f})" if gain.get("low") is not None else f"{text} (unbounded)"


def dropped(logic: Part) -> str:
    """`-0.4 (≥ -1.9)`: the change of base logic in points, with its lower bound."""
    if logic.get("drop") is None:
        return ABSENT
    # Adding 0 turns a negative zero into a plain one.
    text = f"{-logic['drop'] * 100 + 0:+.1f}"
    return f"{text} (≥ {-logic['drop_high'] * 100 + 0:+.1f})" if logic.get("drop_high") is not None else text


def least(gain: float | None, scale: float) -> str:
    return ABSENT if gain is None else f"gain of {gain * scale:g}"


def number(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.3f}"
