"""The verdict: a pure decision from the evaluator's measurements, without file, clock or network.

Each side of the evidence is in one of three states, by one-sided bounds at the policy's confidence:

- a suite is **intact** when the upper bound of its drop is below its margin, **broken** when the drop is shown (lower
  bound above 0) and reaches the margin, else **unproven**; too few items leave it unproven. The worst state of the
  blocking suites counts; what the others lost is a warning;
- the target is **learned** when the lower bound of its gain is above 0 and the gain reaches the least worthwhile one,
  **unlearned** when the upper bound is below that least gain, else **unproven**; too few items or sessions leave it
  unproven.

| suites | target | decision |
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

from collections.abc import Mapping

from services.verifier.evidence import suite_evidence, target_evidence
from services.verifier.results import STYLE, Results
from shared.contracts.verify import Decision, Policy, SuiteEvidence, SuiteState, Target, TargetEvidence, Verdict

CEILING = 0.98  # share of right answers of the base, above which a small loss of harder abilities does not show
WORST_FIRST = (SuiteState.BROKEN, SuiteState.UNPROVEN, SuiteState.INTACT)

DECISIONS: dict[tuple[SuiteState, Target], Decision] = {
    (SuiteState.INTACT, Target.LEARNED): "promote",
    (SuiteState.INTACT, Target.UNLEARNED): "banish",
    (SuiteState.INTACT, Target.UNPROVEN): "inconclusive",
    (SuiteState.BROKEN, Target.LEARNED): "banish",
    (SuiteState.BROKEN, Target.UNLEARNED): "banish",
    (SuiteState.BROKEN, Target.UNPROVEN): "banish",
    (SuiteState.UNPROVEN, Target.LEARNED): "inconclusive",
    (SuiteState.UNPROVEN, Target.UNLEARNED): "banish",
    (SuiteState.UNPROVEN, Target.UNPROVEN): "inconclusive",
}


def judge(results: Results, policy: Policy) -> Verdict:
    """Decide. Raises ValueError when the results are not paired, or a suite of the policy was not asked."""
    if missing := policy.suites.keys() - results.suites.keys():
        raise ValueError(f"suite {min(missing)} was not asked")
    target = target_evidence(results, policy)
    suites = {name: suite_evidence(name, results, policy) for name in sorted(results.suites)}
    target_state, suites_state = state_of_target(target, policy), state_of_suites(suites)
    blocking = {name: suite for name, suite in suites.items() if suite.policy.blocking}
    return Verdict(
        decision=DECISIONS[suites_state, target_state],
        reasons=(
            _about_target(target, target_state, policy),
            *(_about_suite(name, suite) for name, suite in blocking.items()),
            *_about_kinds(blocking),
            *_about_patterns(results),
        ),
        suites_state=suites_state,
        target_state=target_state,
        target=target,
        suites=suites,
        policy=policy,
        drift=results.drift,
        warnings=(
            *(_about_suite(name, suite) for name, suite in suites.items() if _is_only_warned_about(suite)),
            *_about_style(results),
            *(_about_ceiling(name, suite) for name, suite in suites.items() if suite.base.share >= CEILING),
        ),
    )


def state_of_suites(suites: Mapping[str, SuiteEvidence]) -> SuiteState:
    """The worst state of a blocking suite; unproven where none blocks, for then nothing is known to be kept."""
    found = {suite.state for suite in suites.values() if suite.policy.blocking}
    return next((state for state in WORST_FIRST if state in found), SuiteState.UNPROVEN)


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


def _about_suite(name: str, suite: SuiteEvidence) -> str:
    margin, least = suite.policy.margin, suite.policy.min_items
    if suite.items < least:
        return f"Too little to judge {name}: {suite.items} items above chance, {least} are needed."
    found = (
        f"{suite.base.share:.3f} to {suite.candidate.share:.3f} on {suite.items} items, {len(suite.lost)} lost and "
        f"{len(suite.won)} won, drop {suite.drop:+.4f} (one-sided bounds {suite.drop_low:+.4f} and {suite.drop_high:+.4f}); "
        f"a drop of {suite.minimum_detectable_drop:.4f} is detectable"
    )
    match suite.state:
        case SuiteState.INTACT:
            return f"Suite {name} is non-inferior within {margin:.2f}: {found}."
        case SuiteState.BROKEN:
            return f"Suite {name} dropped by at least {margin:.2f}: {found}."
        case SuiteState.UNPROVEN:
            return f"Suite {name} is not shown to be within {margin:.2f}: {found}."


def _is_only_warned_about(suite: SuiteEvidence) -> bool:
    return not suite.policy.blocking and suite.state is not SuiteState.INTACT


def _about_style(results: Results) -> tuple[str, ...]:
    if results.style_rules or not any(STYLE in suite.chance for suite in results.suites.values()):
        return ()
    return (
        "Style bleed was not looked for: most held-out records share no rule that tells the persona's form from the base's.",
    )


def _about_ceiling(name: str, suite: SuiteEvidence) -> str:
    return f"Suite {name} is too easy for this base ({suite.base.share:.3f}): a loss of harder abilities does not show on it."


def _about_kinds(suites: Mapping[str, SuiteEvidence]) -> tuple[str, ...]:
    left_out = [f"{name}/{kind.kind}" for name, suite in suites.items() for kind in suite.kinds if not kind.counted]
    return (
        (f"Left out, as the base is not shown to be above chance on them: {', '.join(left_out)}.",) if left_out else ()
    )


def _about_patterns(results: Results) -> tuple[str, ...]:
    undecided = sum(answer.undecided for row in results.holdout for answer in row.arms.values())
    return (f"{undecided} answers count as failed: the patterns of their items take too long.",) if undecided else ()
