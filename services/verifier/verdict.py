"""The verdict: a pure decision from the evaluator's measurements, without file, clock or network.

Each side of the evidence is in one of three states, by one-sided bounds at the policy's confidence:

- base logic is **intact** when the upper bound of its drop is below the margin, **broken** when the drop is shown
  (lower bound above 0) and reaches the margin, else **unproven**; too few items leave it unproven;
- the target is **learned** when the lower bound of its gain is above 0 and the gain reaches the least worthwhile one,
  **unlearned** when the upper bound is below that least gain, else **unproven**; too few items or sessions leave it
  unproven.

| base logic | target | decision |
|---|---|---|
| intact | learned | promote |
| intact | unlearned | banish |
| intact | unproven | inconclusive |
| broken | any | banish |
| unproven | learned | inconclusive |
| unproven | unlearned | banish |
| unproven | unproven | inconclusive |

Only `promote` is ever served. The base against itself has gained nothing, so it is banished or inconclusive.
"""

from __future__ import annotations

from services.verifier.evidence import base_logic_evidence, target_evidence
from services.verifier.results import Results
from shared.contracts.verify import (
    BaseLogic,
    BaseLogicEvidence,
    Decision,
    Policy,
    Target,
    TargetEvidence,
    Verdict,
)

DECISIONS: dict[tuple[BaseLogic, Target], Decision] = {
    (BaseLogic.INTACT, Target.LEARNED): "promote",
    (BaseLogic.INTACT, Target.UNLEARNED): "banish",
    (BaseLogic.INTACT, Target.UNPROVEN): "inconclusive",
    (BaseLogic.BROKEN, Target.LEARNED): "banish",
    (BaseLogic.BROKEN, Target.UNLEARNED): "banish",
    (BaseLogic.BROKEN, Target.UNPROVEN): "banish",
    (BaseLogic.UNPROVEN, Target.LEARNED): "inconclusive",
    (BaseLogic.UNPROVEN, Target.UNLEARNED): "banish",
    (BaseLogic.UNPROVEN, Target.UNPROVEN): "inconclusive",
}


def judge(results: Results, policy: Policy) -> Verdict:
    """Decide. Raises ValueError when the results are not paired."""
    target, logic = target_evidence(results, policy), base_logic_evidence(results, policy)
    target_state, logic_state = state_of_target(target, policy), state_of_base_logic(logic, policy)
    return Verdict(
        decision=DECISIONS[logic_state, target_state],
        reasons=(
            _about_target(target, target_state, policy),
            _about_base_logic(logic, logic_state, policy),
            *_about_kinds(logic),
            *_about_patterns(results),
        ),
        base_logic_state=logic_state,
        target_state=target_state,
        target=target,
        base_logic=logic,
        policy=policy,
    )


def state_of_base_logic(logic: BaseLogicEvidence, policy: Policy) -> BaseLogic:
    if logic.items < policy.min_items:
        return BaseLogic.UNPROVEN
    if logic.drop_high < policy.margin:
        return BaseLogic.INTACT
    if logic.drop_low > 0 and logic.drop >= policy.margin:
        return BaseLogic.BROKEN
    return BaseLogic.UNPROVEN


def state_of_target(target: TargetEvidence, policy: Policy) -> Target:
    gain, least = target.gain, _least_gain(target, policy)
    if (
        target.items < policy.min_held_out
        or target.sessions < policy.min_sessions
        or gain.low is None
        or gain.high is None
    ):
        return Target.UNPROVEN
    if gain.low > 0 and gain.mean >= least:
        return Target.LEARNED
    return Target.UNLEARNED if gain.high < least else Target.UNPROVEN


def _least_gain(target: TargetEvidence, policy: Policy) -> float:
    return policy.min_gain if target.metric == "rule" else policy.min_nll_gain


def _about_target(target: TargetEvidence, state: Target, policy: Policy) -> str:
    asked = f"{target.items} held-out items of {target.sessions} sessions"
    if target.items < policy.min_held_out or target.sessions < policy.min_sessions:
        return f"Too little to judge the target: {asked}; {policy.min_held_out} of {policy.min_sessions} are needed."
    gain, least = target.gain, _least_gain(target, policy)
    if gain.low is None or gain.high is None:
        return f"The target's gain has no bounds on {asked}."
    measure = "rule score" if target.metric == "rule" else "NLL in nats a token"
    found = f"{gain.mean:+.3f} in {measure} on {asked} (one-sided bounds {gain.low:+.3f} and {gain.high:+.3f})"
    match state:
        case Target.LEARNED:
            return f"The target improved: {found}."
        case Target.UNLEARNED:
            return f"The target did not improve by {least:.2f}: {found}."
        case Target.UNPROVEN:
            return f"The target's improvement is not shown: {found}."


def _about_base_logic(logic: BaseLogicEvidence, state: BaseLogic, policy: Policy) -> str:
    if logic.items < policy.min_items:
        return f"Too little to judge base logic: {logic.items} items above chance, {policy.min_items} are needed."
    found = (
        f"{logic.base.share:.3f} to {logic.candidate.share:.3f} on {logic.items} items, {len(logic.lost)} lost and "
        f"{len(logic.won)} won, drop {logic.drop:+.4f} (one-sided bounds {logic.drop_low:+.4f} and {logic.drop_high:+.4f}); "
        f"a drop of {logic.minimum_detectable_drop:.4f} is detectable"
    )
    match state:
        case BaseLogic.INTACT:
            return f"Base logic is non-inferior within {policy.margin:.2f}: {found}."
        case BaseLogic.BROKEN:
            return f"Base logic dropped by at least {policy.margin:.2f}: {found}."
        case BaseLogic.UNPROVEN:
            return f"Base logic is not shown to be within {policy.margin:.2f}: {found}."


def _about_kinds(logic: BaseLogicEvidence) -> tuple[str, ...]:
    left_out = [kind.kind for kind in logic.kinds if not kind.counted]
    return (
        (f"Left out, as the base is not shown to be above chance on them: {', '.join(left_out)}.",) if left_out else ()
    )


def _about_patterns(results: Results) -> tuple[str, ...]:
    undecided = sum(len(row.undecided) for row in results.holdout)
    return (f"{undecided} answers count as failed: the patterns of their items take too long.",) if undecided else ()
