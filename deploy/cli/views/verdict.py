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
    table = scores(verdict)
    figures: list[RenderableType] = (
        [Text(""), table, Text(""), *(Text(line, "dim") for line in notes(verdict))] if table.row_count else []
    )
    return Group(title, *(Text(reason) for reason in reasons), *figures)


def scores(verdict: Part) -> Table:
    """One row per side of the evidence."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for name in ("base", "candidate", "gain", "needed"):
        table.add_column(name, justify="right", no_wrap=True)
    target, logic, policy = (verdict.get(name) or {} for name in ("target", "base_logic", "policy"))
    by_rule = target.get("metric") == "rule"
    if target.get("candidate"):
        needed = least(policy.get("min_gain"), 100) if by_rule else ABSENT
        arms = arm(target.get("base")), arm(target["candidate"])
        table.add_row("persona", *arms, bounded(target.get("rule_gain") or {}), needed)
    if target.get("nll_candidate") is not None:
        needed = ABSENT if by_rule else least(policy.get("min_nll_gain"), 1)
        arms = number(target.get("nll_base")), number(target["nll_candidate"])
        table.add_row("persona NLL", *arms, bounded(target.get("nll_gain") or {}, 1), needed)
    if logic.get("candidate"):
        margin = f"> -{logic['margin'] * 100:g}" if "margin" in logic else ABSENT
        table.add_row("base logic", arm(logic.get("base")), arm(logic["candidate"]), dropped(logic), margin)
    return table


def notes(verdict: Part) -> list[str]:
    """What the figures mean, on how much they rest, and what flipped."""
    target, logic, policy = (verdict.get(name) or {} for name in ("target", "base_logic", "policy"))
    bound = f"lower bound at {policy['confidence'] * 100:g} %" if "confidence" in policy else "lower bound"
    lines = [f"Scores in % with their intervals, gains in points; in brackets the {bound}; NLL in nats a token."]
    if "items" in target:
        lines.append(f"Persona: {target['items']} sealed items of {target.get('sessions', '?')} sessions.")
    if "items" in logic:
        lost, won = len(logic.get("lost", ())), len(logic.get("won", ()))
        flips = f"{lost} flipped from right to wrong, {won} from wrong to right"
        lines.append(f"Base logic: {logic['items']} items, {flips}{_detectable(logic)}.")
    return lines


def _detectable(logic: Part) -> str:
    drop = logic.get("minimum_detectable_drop")
    return "" if drop is None else f"; a drop of {drop * 100:.1f} points would be seen"


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
    return ABSENT if gain is None else f"≥ +{gain * scale:g}"


def number(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.3f}"
