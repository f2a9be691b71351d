"""Compare the arms on the target and on each suite, with confidence bounds: the evidence for a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from services.verifier import statistics
from services.verifier.results import HeldOut, HeldOutAnswer, Results, SuiteAsked
from shared.contracts.verify import (
    Arm,
    Gain,
    Interval,
    KindEvidence,
    Policy,
    Score,
    SuiteEvidence,
    SuitePolicy,
    SuiteState,
    TargetEvidence,
)

Pair = tuple[str, str, bool, bool]  # kind, item, base right, candidate right


class PairedAnswers(NamedTuple):
    """The scores of base and candidate on a held-out item."""

    session: str
    base: HeldOutAnswer
    candidate: HeldOutAnswer


def suite_evidence(name: str, results: Results, policy: Policy) -> SuiteEvidence:
    """Compare candidate and base on a suite.

    Raises ValueError when they did not answer all of its items, the same ones, or a kind's chance is unknown.
    """
    asked, needed = results.suites[name], policy.suites.get(name, SuitePolicy())
    pairs = _pairs(name, asked, results)
    kinds = tuple(_kind(kind, asked.chance[kind], pairs, policy) for kind in sorted({pair[0] for pair in pairs}))
    counted = {kind.kind for kind in kinds if kind.counted}
    kept = [pair for pair in pairs if pair[0] in counted]
    lost, won, n = _lost(kept), _won(kept), len(kept)
    low, high = statistics.paired_drop(len(lost), len(won), n, policy.confidence)
    drop = (len(lost) - len(won)) / n if n else 0.0
    return SuiteEvidence(
        state=_state(needed, n, drop, low, high),
        policy=needed,
        digest=asked.digest,
        items=n,
        base=_score([base for _, _, base, _ in kept], policy),
        candidate=_score([candidate for _, _, _, candidate in kept], policy),
        drop=drop,
        drop_low=low,
        drop_high=high,
        minimum_detectable_drop=statistics.detectable_drop(len(lost) + len(won), n, policy.confidence),
        lost=lost,
        won=won,
        kinds=kinds,
    )


def _state(needed: SuitePolicy, n: int, drop: float, low: float, high: float) -> SuiteState:
    if n < needed.min_items:
        return SuiteState.UNPROVEN
    if high < needed.margin:
        return SuiteState.INTACT
    return SuiteState.BROKEN if low > 0 and drop >= needed.margin else SuiteState.UNPROVEN


def target_evidence(results: Results, policy: Policy) -> TargetEvidence:
    """Compare the target. Raises ValueError when an item was not scored in both arms, or by rule in one only."""
    rows = [_paired(row) for row in sorted(results.holdout, key=lambda row: row.id)]
    ruled = [row for row in rows if row.base.passed is not None]
    by_rule = len(ruled) >= policy.min_held_out and _sessions(ruled) >= policy.min_sessions
    decisive = ruled if by_rule else rows
    return TargetEvidence(
        metric="rule" if by_rule else "nll",
        items=len(decisive),
        sessions=_sessions(decisive),
        base=_score([bool(row.base.passed) for row in ruled], policy) if ruled else None,
        candidate=_score([bool(row.candidate.passed) for row in ruled], policy) if ruled else None,
        rule_gain=_gain(
            [(row.session, float(bool(row.candidate.passed)) - float(bool(row.base.passed))) for row in ruled], policy
        )
        if ruled
        else None,
        nll_base=_mean([row.base.nll for row in rows]),
        nll_candidate=_mean([row.candidate.nll for row in rows]),
        nll_gain=_gain([(row.session, row.base.nll - row.candidate.nll) for row in rows], policy),
    )


def _pairs(name: str, asked: SuiteAsked, results: Results) -> list[Pair]:
    arms: dict[Arm, dict[tuple[str, str], bool]] = {arm: {} for arm in Arm}
    for score in results.items:
        if score.suite != name:
            continue
        if (score.kind, score.item) in arms[score.arm]:
            raise ValueError(f"item {score.item} of {score.kind} was scored twice in arm {score.arm}")
        arms[score.arm][score.kind, score.item] = score.correct
    base, candidate = arms[Arm.BASE], arms[Arm.CANDIDATE]
    if unpaired := base.keys() ^ candidate.keys():
        raise ValueError(f"{len(unpaired)} items were scored in one arm only, first {min(unpaired)}")
    if len(base) != asked.items:
        raise ValueError(f"{len(base)} items of suite {name} were scored, it has {asked.items}")
    if unknown := {kind for kind, _ in base} - asked.chance.keys():
        raise ValueError(f"{len(unknown)} kinds have no chance level, first {min(unknown)}")
    return [(kind, item, right, candidate[kind, item]) for (kind, item), right in sorted(base.items())]


def _kind(kind: str, chance: float, pairs: Sequence[Pair], policy: Policy) -> KindEvidence:
    chosen = [pair for pair in pairs if pair[0] == kind]
    base = _score([right for _, _, right, _ in chosen], policy)
    return KindEvidence(
        kind=kind,
        n=len(chosen),
        chance=chance,
        base=base,
        candidate=_score([right for _, _, _, right in chosen], policy),
        counted=above_chance(base.right, base.n, chance, policy.confidence),
        lost=len(_lost(chosen)),
        won=len(_won(chosen)),
    )


def above_chance(right: int, n: int, chance: float, confidence: float) -> bool:
    """True when a one-sided lower bound of the score is above the score of guessing."""
    return statistics.wilson(right, n, confidence, sides=1)[0] > chance


def _lost(pairs: Sequence[Pair]) -> tuple[str, ...]:
    return tuple(item for _, item, base, candidate in pairs if base and not candidate)


def _won(pairs: Sequence[Pair]) -> tuple[str, ...]:
    return tuple(item for _, item, base, candidate in pairs if candidate and not base)


def _score(answers: Sequence[bool], policy: Policy) -> Score:
    low, high = statistics.wilson(sum(answers), len(answers), policy.confidence)
    share = sum(answers) / len(answers) if answers else 0.0
    return Score(right=sum(answers), n=len(answers), share=share, interval=Interval(low=low, high=high))


def _paired(row: HeldOut) -> PairedAnswers:
    if missing := {Arm.BASE, Arm.CANDIDATE} - row.arms.keys():
        raise ValueError(f"held-out item {row.id} was not scored in arm {min(missing)}")
    pair = PairedAnswers(row.session, row.arms[Arm.BASE], row.arms[Arm.CANDIDATE])
    if (pair.base.passed is None) != (pair.candidate.passed is None):
        raise ValueError(f"held-out item {row.id} was scored by rule in one arm only")
    return pair


def _sessions(rows: Sequence[PairedAnswers]) -> int:
    return len({row.session for row in rows})


def _gain(gains: Sequence[tuple[str, float]], policy: Policy) -> Gain:
    by_session: dict[str, list[float]] = {}
    for session, gain in gains:
        by_session.setdefault(session, []).append(gain)
    low, high = statistics.clustered_gain(by_session, policy.confidence, policy.resamples, policy.seed)
    bounded = math.isfinite(low)
    return Gain(mean=_mean([gain for _, gain in gains]), low=low if bounded else None, high=high if bounded else None)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0
