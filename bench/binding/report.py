"""The figures of the benchmark: who was accepted in whose name, and how far from the limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist, mean, stdev

from services.registry.binding import Binding
from shared.contracts.probe import SAME_MODEL, Distance

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Measured:
    """One adapter by the adapters in whose name it was asked: its distance in the evaluator's engine, its proof in vLLM."""

    distances: Sequence[Distance]
    proofs: Sequence[Binding]


def text(found: Sequence[Measured], base: Sequence[Binding]) -> str:
    """`base` are the proofs of the base in the name of every adapter."""
    count = len(found)
    pairs = list(combinations(range(count), 2))
    counted = [(one, other) for one, other in pairs if separable(found, one, other)]
    right = [each.proofs[at] for at, each in enumerate(found)]
    wrong = [found[asked].proofs[name] for pair in counted for asked, name in (pair, pair[::-1])]
    taken = sum(proof.proven for proof in wrong)
    far = [proof.found.mean for proof in wrong]
    return "\n".join(
        (
            "nats a token from the evaluator's answers, by adapter asked (rows) in the name of each (columns); last the base:",
            *(
                " ".join(f"{proof.found.mean:5.3f}" for proof in row)
                for row in [*(each.proofs for each in found), base]
            ),
            f"right ones accepted: {sum(proof.proven for proof in right)} of {count}, "
            f"at {min(p.found.mean for p in right):.3f} to {max(p.found.mean for p in right):.3f} nats "
            f"over {min(p.found.tokens for p in right)} to {max(p.found.tokens for p in right)} tokens",
            f"pairs counted: {len(counted)} of {len(pairs)}; the others are indistinguishable in the evaluator's engine",
            f"wrong ones accepted: {taken} of {len(wrong)} (at {CONFIDENCE:.0%} at most {upper_bound(taken, len(wrong)):.1%}), "
            f"at {min(far):.3f} to {max(far):.3f} nats; the base in an adapter's name: {sum(p.proven for p in base)}",
            f"their distances are {mean(far):.3f} ± {stdev(far):.3f}: normally distributed, one is within {SAME_MODEL} "
            f"with probability {NormalDist(mean(far), stdev(far)).cdf(SAME_MODEL):.1g}",
        )
    )


def separable(found: Sequence[Measured], one: int, other: int) -> bool:
    """Whether the probes of either tell two adapters apart in the evaluator's engine."""
    return max(found[one].distances[other].mean, found[other].distances[one].mean) > SAME_MODEL


def upper_bound(taken: int, trials: int) -> float:
    """One-sided bound of a probability by Clopper and Pearson, where none was taken; else of the observed share (Wilson)."""
    if not taken:
        return float(1 - (1 - CONFIDENCE) ** (1 / trials))
    z, share = NormalDist().inv_cdf(CONFIDENCE), taken / trials
    half = z * (share * (1 - share) / trials + z * z / (4 * trials * trials)) ** 0.5
    return float((share + z * z / (2 * trials) + half) / (1 + z * z / trials))
