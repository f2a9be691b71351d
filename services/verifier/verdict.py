"""The verdict: a pure decision from the evaluator's measurements, without file, clock or network.

Each side of the evidence is in one of three states:

- a suite is **intact** when the upper bound of its drop is below its margin, **broken** when the drop is shown (exact
  McNemar test, adjusted for the number of suites) and reaches the margin, else **unproven**; too few items leave it
  unproven. Where the policy has a number of items that may be lost, that number decides in place of the bound. The worst
  state of the blocking suites counts; what the others lost is a warning. No adjustment is due where all
  of them must be intact (an intersection-union test: Berger 1982, Technometrics 24:295-300): a candidate that truly lost
  more than the margin in one suite passes that one at its own level, whatever the others are. The owner's policy may count
  the context (context.py) as one of them;
- the target is **learned** when the lower bound of its gain is above 0, the exact sign-flip test over sessions finds the
  gain at the level that earlier looks at the holdout have left (levels.py), and it reaches the least worthwhile one;
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

Only `promote` is ever served, and only in place of a champion to which the candidate is non-inferior. The base against itself
has gained nothing, so it is banished or inconclusive. Where the base is shown to differ from itself, nothing is promoted.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.verifier.champion import rank
from services.verifier.context import about_context, context_evidence
from services.verifier.evidence import noise, suite_evidence, target_evidence
from services.verifier.results import STYLE, Results
from shared.contracts.verify import (
    Champion,
    Decision,
    Look,
    Noise,
    Policy,
    SuiteEvidence,
    SuiteState,
    Target,
    TargetEvidence,
    Verdict,
)

CEILING = 0.98  # share of right answers of the base, above which a small loss of harder abilities does not show
SHOWN = 8  # lost items that a reason names
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


def judge(results: Results, policy: Policy, look: Look | None = None, champion: Champion | None = None) -> Verdict:
    """Decide. Without a `look` the holdout was never used before.

    Raises ValueError when the results are not paired, a suite of the policy was not asked, or the champion was not.
    """
    look = look or Look()
    if missing := policy.suites.keys() - results.suites.keys():
        raise ValueError(f"suite {min(missing)} was not asked")
    if unknown := {score.suite for score in results.items} - results.suites.keys():
        raise ValueError(f"items of suite {min(unknown)} were scored, which was not asked")
    target, suites = target_evidence(results, policy, look), suite_evidence(results, policy)
    floor, context = noise(results, policy), context_evidence(results, policy, look)
    target_state, suites_state = state_of_target(target, policy), state_of_suites(suites)
    if context and policy.context.blocking:
        suites_state = min(suites_state, context.state, key=WORST_FIRST.index)
    about = (about_context(context, policy),) if context else ()
    context_decides = context and (policy.context.blocking or context.state is SuiteState.INTACT)
    decision = DECISIONS[suites_state, target_state]
    blocking = {name: suite for name, suite in suites.items() if suite.policy.blocking}
    ranked = rank(results, policy, look, champion, target, blocking)
    return Verdict(
        decision="inconclusive" if decision == "promote" and floor and floor.differs else decision,
        reasons=(
            _about_target(target, target_state, policy),
            *(_about_suite(name, suite) for name, suite in blocking.items()),
            *(about if context_decides else ()),
            *([ranked.reason] if champion else ()),
            *_about_noise(floor),
            *_about_kinds(blocking),
            *_about_patterns(results),
        ),
        suites_state=suites_state,
        target_state=target_state,
        target=target,
        suites=suites,
        policy=policy,
        look=look,
        champion=ranked,
        context=context,
        noise=floor,
        drift=results.drift,
        warnings=(
            *(_about_suite(name, suite) for name, suite in suites.items() if _is_only_warned_about(suite)),
            *(() if context_decides else about),
            *_about_style(results),
            *(_about_ceiling(name, suite) for name, suite in suites.items() if _is_too_easy(suite)),
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
    if gain.low > 0 and gain.mean >= least and target.p_value <= target.level:
        return Target.LEARNED
    return Target.UNLEARNED if gain.high < least else Target.UNPROVEN


def _least_gain(target: TargetEvidence, policy: Policy) -> float:
    return policy.min_gain if target.metric == "rule" else policy.min_nll_gain


def _about_target(target: TargetEvidence, state: Target, policy: Policy) -> str:
    asked = f"{target.items} held-out items of {target.sessions} sessions"
    if target.items < policy.min_held_out or target.sessions < policy.min_sessions:
        needed = f"{policy.min_held_out} of {policy.min_sessions} are needed"
        if target.worn:
            return (
                f"The holdout is worn out: {target.worn} sessions carried {policy.looks} verdicts each, what is left is {asked}; "
                f"{needed}. New sessions of karma are sealed with the next harvests."
            )
        return f"Too little to judge the target: {asked}; {needed}."
    gain, least = target.gain, _least_gain(target, policy)
    if gain.low is None or gain.high is None:
        return f"The target's gain has no bounds on {asked}."
    measure = "rule score" if target.metric == "rule" else "NLL in nats a token"
    look = f"{_ordinal(target.looks)} look at them, p {target.p_value:.2g}, level {target.level:.2g}"
    found = f"{gain.mean:+.3f} in {measure} on {asked} (one-sided bounds {gain.low:+.3f} and {gain.high:+.3f}; {look})"
    match state:
        case Target.LEARNED:
            return f"The target improved: {found}."
        case Target.UNLEARNED:
            return f"The target did not improve by {least:.2f}: {found}."
        case Target.UNPROVEN:
            return f"The target's improvement is not shown: {found}. {_about_power(target)}"


def _about_power(target: TargetEvidence) -> str:
    if target.minimum_detectable_gain is None:
        return (
            f"No gain could be shown: {target.sessions} sessions are too few for level {target.level:.2g}, and after "
            f"{target.looks - 1} looks they are worn out. More sessions of karma are needed."
        )
    return f"A gain of {target.minimum_detectable_gain:.3f} would be shown in nine of ten cases."


def _ordinal(number: int) -> str:
    suffix = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def _about_suite(name: str, suite: SuiteEvidence) -> str:
    margin, least = suite.policy.margin, suite.policy.min_items
    if suite.items < least:
        return f"Too little to judge {name}: {suite.items} items above chance, {least} are needed."
    if suite.policy.max_lost is not None:
        named = f": {', '.join(suite.lost[:SHOWN])}" if suite.lost else ""
        return (
            f"Suite {name} lost {len(suite.lost)} of {suite.items} items, {suite.policy.max_lost} may be lost{named}."
        )
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


def _is_too_easy(suite: SuiteEvidence) -> bool:
    return suite.policy.max_lost is None and suite.base.share >= CEILING


def _about_ceiling(name: str, suite: SuiteEvidence) -> str:
    return f"Suite {name} is too easy for this base ({suite.base.share:.3f}): a loss of harder abilities does not show on it."


def _about_noise(floor: Noise | None) -> tuple[str, ...]:
    if floor is None or not (floor.differs or floor.lost or floor.won):
        return ()
    found = f"{floor.lost} lost and {floor.won} won of {floor.items} items asked again"
    if floor.differs:
        return (f"The base differs from itself: {found}. Its scores are none to compare with; evaluate again.",)
    return (f"The base against itself: {found}, which is the noise of the engine.",)


def _about_kinds(suites: Mapping[str, SuiteEvidence]) -> tuple[str, ...]:
    left_out = [f"{name}/{kind.kind}" for name, suite in suites.items() for kind in suite.kinds if not kind.counted]
    return (
        (f"Left out, as the base is not shown to be above chance on them: {', '.join(left_out)}.",) if left_out else ()
    )


def _about_patterns(results: Results) -> tuple[str, ...]:
    undecided = sum(answer.undecided for row in results.holdout for answer in row.arms.values())
    return (f"{undecided} answers count as failed: the patterns of their items take too long.",) if undecided else ()
