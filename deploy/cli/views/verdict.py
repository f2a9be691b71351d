"""The verdict as tables: both arms with their intervals, the difference, and what was needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from shared.contracts.verify import Arm

if TYPE_CHECKING:
    from shared.contracts.verify import ContextEvidence, Drift, Gain, Score, SuiteEvidence, TargetEvidence, Verdict

COLOURS = {"promote": "bold green", "banish": "bold red", "inconclusive": "bold yellow"}
ABSENT = "–"


def verdict_view(verdict: Verdict) -> RenderableType:
    """Decision, reasons and scores."""
    title = Text.assemble(("verdict  ", "bold"), (verdict.decision, COLOURS[verdict.decision]))
    notes = (Text(line, "dim") for line in notes_of(verdict))
    warnings = (Text(f"warning: {line}", "yellow") for line in verdict.warnings)
    return Group(title, *map(Text, verdict.reasons), *warnings, Text(""), scores_table(verdict), Text(""), *notes)


def scores_table(verdict: Verdict) -> Table:
    """One row per side of the evidence."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for name in ("base", "candidate", "gain", "needed"):
        table.add_column(name, justify="right", no_wrap=True)
    target, policy = verdict.target, verdict.policy
    by_rule = target.metric == "rule"
    if target.candidate:
        needed = f"≥ +{policy.min_gain * 100:g}" if by_rule else ABSENT
        table.add_row("persona", score(target.base), score(target.candidate), gain(target.rule_gain, 100), needed)
    needed = ABSENT if by_rule else f"≥ +{policy.min_nll_gain:g}"
    nll = f"{target.nll_base:.3f}", f"{target.nll_candidate:.3f}"
    table.add_row("persona NLL", *nll, gain(target.nll_gain, 1), needed)
    for name, suite in verdict.suites.items():
        most = suite.policy.max_lost
        least = f"> -{suite.policy.margin * 100:g}" if most is None else f"≤ {most} lost"
        needed = least if suite.policy.blocking else "shown"
        gained = change(suite.drop, suite.drop_high)
        table.add_row(name, score(suite.base), score(suite.candidate), gained, needed)
    if (context := verdict.context) and context.items:
        needed = f"> -{context.loss.margin * 100:g}" if policy.context.blocking else "shown"
        gained = change(context.loss.mean, context.loss.high)
        table.add_row("context", score(context.base_prompted), score(context.candidate), gained, needed)
    return table


def notes_of(verdict: Verdict) -> list[str]:
    """What the figures mean, on how much they rest, and what flipped."""
    policy = verdict.policy
    bounds = f"lower bounds, at {policy.target_confidence * 100:g} % for the persona and {policy.confidence * 100:g} % for suites"
    return [
        f"Scores in % with their intervals, gains in points; in brackets {bounds}; NLL in nats a token.",
        _looked(verdict.target),
        *(_flips(name, suite) for name, suite in verdict.suites.items()),
        context_note(verdict.context),
        *([_drifted(verdict.drift)] if verdict.drift else []),
    ]


def _looked(target: TargetEvidence) -> str:
    worn = f" ({target.worn} more are worn out)" if target.worn else ""
    scale, unit = (100, "points") if target.metric == "rule" else (1, "nats a token")
    detectable = target.minimum_detectable_gain
    seen = (
        "no gain could be shown" if detectable is None else f"a gain of {detectable * scale:.2g} {unit} would be seen"
    )
    look = f"verdict {target.looks} on them: p {target.p_value:.2g}, level {target.level:.2g}"
    return f"Persona: {target.items} sealed items of {target.sessions} sessions{worn}; {look}; {seen}."


def _flips(name: str, suite: SuiteEvidence) -> str:
    flips = f"{len(suite.lost)} flipped from right to wrong, {len(suite.won)} from wrong to right"
    detectable = f"a drop of {suite.minimum_detectable_drop * 100:.1f} points would be seen"
    return f"Suite {name}: {suite.items} items, {flips}; {detectable}."


def context_note(context: ContextEvidence | None) -> str:
    """What the four arms score, and what a request saves."""
    if context is None:
        return "Context: left out, for no held-out item has a system prompt that this base's chat template shows."
    if not context.items:
        return f"Context: no held-out item with a system prompt has rules; {saved(context)}."
    return (
        f"Context: the base with the system prompt against the candidate without it, on {context.items} sealed items; the base "
        f"without it {score(context.base)}, the candidate with it {score(context.candidate_prompted)}; {saved(context)}."
    )


def saved(context: ContextEvidence) -> str:
    """`61.0 tokens saved per request (60.2 to 61.9)`: with its one-sided bounds."""
    found = context.tokens_saved
    bounds = "" if found.low is None or found.high is None else f" ({found.low:.1f} to {found.high:.1f})"
    return f"{found.mean:.1f} tokens saved per request{bounds}"


def _drifted(drift: Drift) -> str:
    base, candidate = drift.answers[Arm.BASE], drift.answers[Arm.CANDIDATE]
    return (
        f"Drift on {drift.prompts} general prompts: {drift.kl:.3f} nats a token; answers of {candidate.words:.0f} words (base "
        f"{base.words:.0f}), {candidate.repeating * 100:.0f} % repeat themselves (base {base.repeating * 100:.0f} %)."
    )


def score(value: Score | None) -> str:
    """`84.2 % (70–93)`: the share of right answers with its two-sided interval."""
    if value is None:
        return ABSENT
    return f"{value.share * 100:.1f} % ({value.interval.low * 100:.0f}–{value.interval.high * 100:.0f})"


def gain(value: Gain | None, scale: float) -> str:
    """`+84.2 (≥ +71.1)`: a gain with its lower bound; in points of 100, or as it is."""
    if value is None:
        return ABSENT
    digits = 1 if scale > 1 else 3
    bound = "unbounded" if value.low is None else f"≥ {value.low * scale:+.{digits}f}"
    return f"{value.mean * scale:+.{digits}f} ({bound})"


def change(drop: float, high: float | None) -> str:
    """`-0.4 (≥ -1.9)`: the change of a score in points, with its lower bound."""
    # Adding 0 turns a negative zero into a plain one.
    return f"{-drop * 100 + 0:+.1f} ({'unbounded' if high is None else f'≥ {-high * 100 + 0:+.1f}'})"
