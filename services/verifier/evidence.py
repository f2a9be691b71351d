"""Compare both arms on the target and on base logic, with confidence bounds: the evidence for a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence

from services.verifier import statistics
from services.verifier.results import Arm, HeldOut, Results
from shared.contracts.verify import BaseLogicEvidence, Gain, Interval, KindEvidence, Policy, Score, TargetEvidence

Pair = tuple[str, str, bool, bool]  # kind, item, base right, candidate right


def base_logic_evidence(results: Results, policy: Policy) -> BaseLogicEvidence:
    """Compare base logic. Raises ValueError when the arms did not answer the same items, or a kind's chance is unknown."""
    pairs = _pairs(results)
    if unknown := {pair[0] for pair in pairs} - results.chance.keys():
        raise ValueError(f"{len(unknown)} kinds have no chance level, first {min(unknown)}")
    kinds = tuple(_kind(kind, results.chance[kind], pairs, policy) for kind in sorted({pair[0] for pair in pairs}))
    counted = {kind.kind for kind in kinds if kind.counted}
    kept = [pair for pair in pairs if pair[0] in counted]
    lost, won, n = _lost(kept), _won(kept), len(kept)
    low, high = statistics.paired_drop(len(lost), len(won), n, policy.confidence)
    return BaseLogicEvidence(
        items=n,
        base=_score([base for _, _, base, _ in kept], policy),
        candidate=_score([candidate for _, _, _, candidate in kept], policy),
        drop=(len(lost) - len(won)) / n if n else 0.0,
        drop_low=low,
        drop_high=high,
        margin=policy.margin,
        minimum_detectable_drop=statistics.detectable_drop(len(lost) + len(won), n, policy.confidence),
        lost=lost,
        won=won,
        kinds=kinds,
    )


def target_evidence(results: Results, policy: Policy) -> TargetEvidence:
    """Compare the target. Raises ValueError when an item was scored by rule in one arm only."""
    rows = sorted(results.holdout, key=lambda row: row.id)
    ruled = [row for row in rows if _is_ruled(row)]
    by_rule = len(ruled) >= policy.min_held_out and _sessions(ruled) >= policy.min_sessions
    decisive = ruled if by_rule else rows
    return TargetEvidence(
        metric="rule" if by_rule else "nll",
        items=len(decisive),
        sessions=_sessions(decisive),
        base=_score([bool(row.pass_base) for row in ruled], policy) if ruled else None,
        candidate=_score([bool(row.pass_candidate) for row in ruled], policy) if ruled else None,
        rule_gain=_gain(
            [(row.session, float(bool(row.pass_candidate)) - float(bool(row.pass_base))) for row in ruled], policy
        )
        if ruled
        else None,
        nll_base=_mean([row.nll_base for row in rows]),
        nll_candidate=_mean([row.nll_candidate for row in rows]),
        nll_gain=_gain([(row.session, row.nll_base - row.nll_candidate) for row in rows], policy),
    )


def _pairs(results: Results) -> list[Pair]:
    arms: dict[Arm, dict[tuple[str, str], bool]] = {arm: {} for arm in Arm}
    for score in results.items:
        if (score.kind, score.item) in arms[score.arm]:
            raise ValueError(f"item {score.item} of {score.kind} was scored twice in arm {score.arm}")
        arms[score.arm][score.kind, score.item] = score.correct
    unpaired = arms[Arm.BASE].keys() ^ arms[Arm.CANDIDATE].keys()
    if unpaired:
        raise ValueError(f"{len(unpaired)} items were scored in one arm only, first {min(unpaired)}")
    return [
        (kind, item, right, arms[Arm.CANDIDATE][kind, item]) for (kind, item), right in sorted(arms[Arm.BASE].items())
    ]


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


def _is_ruled(row: HeldOut) -> bool:
    if (row.pass_base is None) != (row.pass_candidate is None):
        raise ValueError(f"held-out item {row.id} was scored by rule in one arm only")
    return row.pass_base is not None


def _sessions(rows: Sequence[HeldOut]) -> int:
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
