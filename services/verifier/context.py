"""Context recovery: the candidate without its system prompt against the base with it, and what a request saves."""

from __future__ import annotations

from services.verifier.evidence import Pair, clustered_mean, drop_bounds, score_of
from services.verifier.results import Results
from shared.contracts.verify import Arm, ContextEvidence, Look, Loss, Policy, SuiteState

CONTEXT = "context"


def context_evidence(results: Results, policy: Policy, look: Look) -> ContextEvidence | None:
    """Compare on the held-out items with a system prompt and rules; None where no item was asked with its prompt."""
    saved = [(row.session, float(row.tokens_saved)) for row in results.holdout if row.tokens_saved is not None]
    if not saved:
        return None
    rows = [
        (row, row.prompted, {arm: bool(row.arms[arm].passed) for arm in (Arm.BASE, Arm.CANDIDATE)})
        for row in sorted(results.holdout, key=lambda row: row.id)
        if row.prompted and row.session not in look.worn
    ]
    pairs = [Pair(CONTEXT, row.id, row.session, with_it.base, arms[Arm.CANDIDATE]) for row, with_it, arms in rows]
    low, high = drop_bounds(pairs, policy.confidence, policy)
    base_prompted = score_of([pair.before for pair in pairs], policy)
    candidate = score_of([pair.after for pair in pairs], policy)
    mean = base_prompted.share - candidate.share
    loss = Loss(mean=mean, low=low, high=high, margin=policy.context.margin)
    sessions = len({pair.session for pair in pairs})
    enough = len(pairs) >= policy.min_held_out and sessions >= policy.min_sessions
    return ContextEvidence(
        state=_state(low, high, policy.context.margin) if enough else SuiteState.UNPROVEN,
        items=len(pairs),
        sessions=sessions,
        base=score_of([arms[Arm.BASE] for _, _, arms in rows], policy),
        base_prompted=base_prompted,
        candidate=candidate,
        candidate_prompted=score_of([with_it.candidate for _, with_it, _ in rows], policy),
        loss=loss,
        tokens_saved=clustered_mean(saved, policy.confidence, policy),
    )


def _state(low: float, high: float, margin: float) -> SuiteState:
    """Broken is stricter than for a suite: the whole margin is shown to be lost, for nothing corrects for a further test."""
    if high < margin:
        return SuiteState.INTACT
    return SuiteState.BROKEN if low >= margin else SuiteState.UNPROVEN


def about_context(found: ContextEvidence, policy: Policy) -> str:
    """What is shown, in words and numbers."""
    saved = f"{found.tokens_saved.mean:.1f} tokens saved per request"
    if found.tokens_saved.low is not None and found.tokens_saved.high is not None:
        saved += f" (one-sided bounds {found.tokens_saved.low:.1f} and {found.tokens_saved.high:.1f})"
    if found.items < policy.min_held_out or found.sessions < policy.min_sessions:
        return (
            f"Too little to judge the context: {found.items} held-out items of {found.sessions} sessions with a system prompt "
            f"and rules; {policy.min_held_out} of {policy.min_sessions} are needed; {saved}."
        )
    shown = {
        SuiteState.INTACT: "is non-inferior to the base with the prompt within",
        SuiteState.BROKEN: "loses more against the base with the prompt than",
        SuiteState.UNPROVEN: "is not shown to be non-inferior to the base with the prompt within",
    }
    return (
        f"The candidate without its system prompt {shown[found.state]} {found.loss.margin:.2f} in rule score: "
        f"{found.base_prompted.share:.3f} to {found.candidate.share:.3f} on {found.items} held-out items of {found.sessions} "
        f"sessions, loss {found.loss.mean:+.3f} (one-sided bounds {found.loss.low:+.3f} and {found.loss.high:+.3f}); {saved}."
    )
