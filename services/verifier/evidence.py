"""Compare the arms on the target and on each suite, with confidence bounds: the evidence for a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from services.verifier import statistics
from services.verifier.levels import level_of
from services.verifier.results import HeldOut, HeldOutAnswer, ItemScore, Results
from shared.contracts.verify import (
    Arm,
    Gain,
    Interval,
    KindEvidence,
    Look,
    Loss,
    Noise,
    Policy,
    Score,
    SuiteEvidence,
    SuitePolicy,
    SuiteState,
    TargetEvidence,
    rounded,
)


class Pair(NamedTuple):
    """An item, and whether the arm that is compared with, and the candidate, got it right."""

    kind: str
    item: str
    session: str
    before: bool
    after: bool


class PairedAnswers(NamedTuple):
    """The scores of the arm that is compared with, and of the candidate, on a held-out item."""

    session: str
    before: HeldOutAnswer
    after: HeldOutAnswer


def suite_evidence(results: Results, policy: Policy) -> dict[str, SuiteEvidence]:
    """Compare candidate and base on every suite.

    Raises ValueError when they did not answer all of its items, the same ones, or a kind's chance is unknown.
    """
    found = {name: _suite(name, results, policy) for name in sorted(results.suites)}
    by_name = statistics.holm({name: suite.p_value for name, suite in found.items()})
    adjusted = {name: rounded(value) for name, value in by_name.items()}
    return {
        name: suite.model_copy(
            update={"adjusted": adjusted[name], "state": _state(suite, adjusted[name], policy.confidence)}
        )
        for name, suite in found.items()
    }


def suite_loss(name: str, results: Results, kinds: Iterable[KindEvidence], policy: Policy) -> Loss:
    """Compare candidate and champion on the kinds of a suite that count. Raises ValueError as `suite_evidence` does."""
    counted = {kind.kind for kind in kinds if kind.counted}
    pairs = [pair for pair in _pairs(name, results, Arm.CHAMPION) if pair.kind in counted]
    low, high = drop_bounds(pairs, policy.confidence, policy)
    margin = policy.suites.get(name, SuitePolicy()).margin
    return Loss(mean=_mean([pair.before - pair.after for pair in pairs]), low=low, high=high, margin=margin)


def _suite(name: str, results: Results, policy: Policy) -> SuiteEvidence:
    asked, needed = results.suites[name], policy.suites.get(name, SuitePolicy())
    pairs = _pairs(name, results, Arm.BASE)
    if unknown := {pair.kind for pair in pairs} - asked.chance.keys():
        raise ValueError(f"{len(unknown)} kinds have no chance level, first {min(unknown)}")
    kinds = tuple(_kind(kind, asked.chance[kind], pairs, policy) for kind in sorted({pair.kind for pair in pairs}))
    counted = {kind.kind for kind in kinds if kind.counted}
    kept = [pair for pair in pairs if pair.kind in counted]
    low, high = drop_bounds(kept, policy.confidence, policy)
    lost, won = _lost(kept), _won(kept)
    return SuiteEvidence(
        state=SuiteState.UNPROVEN,
        policy=needed,
        digest=asked.digest,
        items=len(kept),
        base=score_of([pair.before for pair in kept], policy),
        candidate=score_of([pair.after for pair in kept], policy),
        drop=_mean([pair.before - pair.after for pair in kept]),
        drop_low=low,
        drop_high=high,
        p_value=statistics.sign_flip(map(sum, _by_session(kept).values())),
        minimum_detectable_drop=statistics.detectable_drop(len(lost) + len(won), len(kept), policy.confidence),
        lost=lost,
        won=won,
        kinds=kinds,
    )


def _state(suite: SuiteEvidence, adjusted: float, confidence: float) -> SuiteState:
    if suite.items < suite.policy.min_items:
        return SuiteState.UNPROVEN
    if suite.policy.max_lost is not None:
        return SuiteState.INTACT if len(suite.lost) <= suite.policy.max_lost else SuiteState.BROKEN
    if suite.drop_high < suite.policy.margin:
        return SuiteState.INTACT
    broken = adjusted <= 1 - confidence and suite.drop >= suite.policy.margin
    return SuiteState.BROKEN if broken else SuiteState.UNPROVEN


def noise(results: Results, policy: Policy) -> Noise | None:
    """Compare the base with itself; None where it was asked nothing again. Raises ValueError for an item that it never had."""
    if not results.repeated:
        return None
    first = {(score.suite, score.kind, score.item): score for score in results.items if score.arm is Arm.BASE}
    again = _by_item(results.repeated)
    if unknown := again.keys() - first.keys():
        raise ValueError(f"item {min(unknown)} was repeated, and never asked")
    pairs = [
        Pair(score.kind, score.item, score.session, first[key].correct, score.correct) for key, score in again.items()
    ]
    drops = [sum(drop) for drop in _by_session(pairs).values()]
    p_value = 2 * min(statistics.sign_flip(drops), statistics.sign_flip(-drop for drop in drops))
    return Noise(
        items=len(pairs),
        lost=len(_lost(pairs)),
        won=len(_won(pairs)),
        p_value=min(1.0, p_value),
        differs=p_value <= 1 - policy.confidence,
    )


def target_evidence(results: Results, policy: Policy, look: Look) -> TargetEvidence:
    """Compare the target. Raises ValueError when an item was not scored in both arms, or by rule in one only."""
    rows = _held_out(results, Arm.BASE, look)
    ruled = [row for row in rows if row.before.passed is not None]
    by_rule = len(ruled) >= policy.min_held_out and _count_sessions(ruled) >= policy.min_sessions
    decisive = ruled if by_rule else rows
    gains = _grouped((row.session, _gain_of(row, by_rule)) for row in decisive)
    level = level_of(look.history, 1 - policy.target_confidence)
    detectable = statistics.detectable_gain(gains, level)
    return TargetEvidence(
        metric="rule" if by_rule else "nll",
        items=len(decisive),
        sessions=len(gains),
        worn=len(look.worn),
        looks=len(look.history) + 1,
        p_value=statistics.sign_flip(map(math.fsum, gains.values())),
        level=level,
        minimum_detectable_gain=detectable if math.isfinite(detectable) else None,
        base=score_of([bool(row.before.passed) for row in ruled], policy) if ruled else None,
        candidate=score_of([bool(row.after.passed) for row in ruled], policy) if ruled else None,
        rule_gain=_gain(ruled, policy, by_rule=True) if ruled else None,
        nll_base=_mean([row.before.nll for row in rows]),
        nll_candidate=_mean([row.after.nll for row in rows]),
        nll_gain=_gain(rows, policy, by_rule=False),
    )


def target_loss(results: Results, policy: Policy, look: Look, *, by_rule: bool) -> Loss:
    """Compare candidate and champion on the target. Raises ValueError when an item was not scored in both arms."""
    rows = _held_out(results, Arm.CHAMPION, look)
    if by_rule:
        rows = [row for row in rows if row.before.passed is not None]
    found = _grouped((row.session, -_gain_of(row, by_rule)) for row in rows)
    low, high = statistics.clustered_gain(found, policy.confidence, policy.resamples, policy.seed)
    bounded = math.isfinite(low)
    return Loss(
        mean=_mean([-_gain_of(row, by_rule) for row in rows]),
        low=low if bounded else None,
        high=high if bounded else None,
        margin=policy.champion_margin if by_rule else policy.min_nll_gain,
    )


def _pairs(name: str, results: Results, against: Arm) -> list[Pair]:
    scores = [score for score in results.items if score.suite == name]
    before, after = (_by_item(score for score in scores if score.arm is arm) for arm in (against, Arm.CANDIDATE))
    if unpaired := before.keys() ^ after.keys():
        raise ValueError(f"{len(unpaired)} items were scored in one arm only, first {min(unpaired)}")
    if len(before) != results.suites[name].items:
        raise ValueError(f"{len(before)} items of suite {name} were scored, it has {results.suites[name].items}")
    if moved := [key for key, score in before.items() if score.session != after[key].session]:
        raise ValueError(f"{len(moved)} items are of another session in each arm, first {min(moved)}")
    return [
        Pair(score.kind, score.item, score.session, score.correct, after[key].correct)
        for key, score in sorted(before.items())
    ]


def _by_item(scores: Iterable[ItemScore]) -> dict[tuple[str, str, str], ItemScore]:
    found: dict[tuple[str, str, str], ItemScore] = {}
    for score in scores:
        key = score.suite, score.kind, score.item
        if key in found:
            raise ValueError(f"item {score.item} of {score.kind} was scored twice in arm {score.arm}")
        found[key] = score
    return found


def drop_bounds(pairs: Sequence[Pair], confidence: float, policy: Policy) -> tuple[float, float]:
    low, high = statistics.paired_drop(len(_lost(pairs)), len(_won(pairs)), len(pairs), confidence)
    sessions = _by_session(pairs)
    if len(sessions) == len(pairs):
        return low, high
    clustered = statistics.clustered_gain(sessions, confidence, policy.resamples, policy.seed)
    return min(low, max(clustered[0], -1.0)), max(high, min(clustered[1], 1.0))


def _by_session(pairs: Iterable[Pair]) -> dict[str, list[float]]:
    return _grouped((pair.session, float(pair.before - pair.after)) for pair in pairs)


def _grouped(values: Iterable[tuple[str, float]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for session, value in values:
        found.setdefault(session, []).append(value)
    return found


def _kind(kind: str, chance: float, pairs: Sequence[Pair], policy: Policy) -> KindEvidence:
    chosen = [pair for pair in pairs if pair.kind == kind]
    base = score_of([pair.before for pair in chosen], policy)
    return KindEvidence(
        kind=kind,
        n=len(chosen),
        chance=chance,
        base=base,
        candidate=score_of([pair.after for pair in chosen], policy),
        counted=above_chance(base.right, base.n, chance, policy.confidence),
        lost=len(_lost(chosen)),
        won=len(_won(chosen)),
    )


def above_chance(right: int, n: int, chance: float, confidence: float) -> bool:
    """True when a one-sided lower bound of the score is above the score of guessing."""
    return statistics.wilson(right, n, confidence, sides=1)[0] > chance


def _lost(pairs: Sequence[Pair]) -> tuple[str, ...]:
    return tuple(pair.item for pair in pairs if pair.before and not pair.after)


def _won(pairs: Sequence[Pair]) -> tuple[str, ...]:
    return tuple(pair.item for pair in pairs if pair.after and not pair.before)


def score_of(answers: Sequence[bool], policy: Policy) -> Score:
    low, high = statistics.wilson(sum(answers), len(answers), policy.confidence)
    share = sum(answers) / len(answers) if answers else 0.0
    return Score(right=sum(answers), n=len(answers), share=share, interval=Interval(low=low, high=high))


def _held_out(results: Results, against: Arm, look: Look) -> list[PairedAnswers]:
    if len({row.id for row in results.holdout}) != len(results.holdout):
        raise ValueError("a held-out item was scored twice")
    worn = frozenset(look.worn)
    rows = sorted(results.holdout, key=lambda row: row.id)
    return [_paired(row, against) for row in rows if row.session not in worn]


def _paired(row: HeldOut, against: Arm) -> PairedAnswers:
    if missing := {against, Arm.CANDIDATE} - row.arms.keys():
        raise ValueError(f"held-out item {row.id} was not scored in arm {min(missing)}")
    pair = PairedAnswers(row.session, row.arms[against], row.arms[Arm.CANDIDATE])
    if (pair.before.passed is None) != (pair.after.passed is None):
        raise ValueError(f"held-out item {row.id} was scored by rule in one arm only")
    return pair


def _count_sessions(rows: Sequence[PairedAnswers]) -> int:
    return len({row.session for row in rows})


def _gain_of(row: PairedAnswers, by_rule: bool) -> float:
    if by_rule:
        return float(bool(row.after.passed)) - float(bool(row.before.passed))
    return row.before.nll - row.after.nll


def _gain(rows: Sequence[PairedAnswers], policy: Policy, *, by_rule: bool) -> Gain:
    return clustered_mean(((row.session, _gain_of(row, by_rule)) for row in rows), policy.target_confidence, policy)


def clustered_mean(values: Iterable[tuple[str, float]], confidence: float, policy: Policy) -> Gain:
    """The mean of values by session, with its bounds."""
    found = _grouped(values)
    low, high = statistics.clustered_gain(found, confidence, policy.resamples, policy.seed)
    bounded = math.isfinite(low)
    mean = _mean([value for values in found.values() for value in values])
    return Gain(mean=mean, low=low if bounded else None, high=high if bounded else None)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0
