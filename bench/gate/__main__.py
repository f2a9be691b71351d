"""How often the gate errs, by simulation: `python -m bench.gate [--candidates N] [--holdouts N] [--seed N]`.

Candidates without effect are to be promoted at most once in a hundred, also over thirty nights on one holdout; the base
compared with itself is to differ at the nominal rate at most; and the effect that a verdict states as detectable is to be
found nine times of ten. Exit code 1 where not.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator
from random import Random

from bench.gate.simulate import Holdout
from services.verifier.verdict import judge
from shared.contracts.verify import Look, Policy, Target, Verdict

POLICY = Policy()
NIGHTS = 30
GAINS = (0.2, 0.4, 0.6, 0.7, 0.8, 0.9)
POWER = 0.9
ALLOWED = 2 / 300


def main(candidates: int, holdouts: int, seed: int) -> int:
    """Print each rate and return the exit code."""
    print(f"holdouts of {Holdout(Random(seed)).sessions} sessions, two items each; seed {seed}")
    passed = [
        no_effect(candidates, seed),
        noise(candidates, seed + 1),
        nights(holdouts, seed + 2),
        power(candidates // 3, seed + 3),
    ]
    return 0 if all(passed) else 1


def no_effect(count: int, seed: int) -> bool:
    """Promoted among candidates without effect, each on its own holdout, once at 30 sessions and once at 10."""
    chance, promoted, by_bound = Random(seed), 0, 0
    for number in range(count):
        verdict = judge(Holdout(chance, sessions=(20, 10)[number % 2]).candidate(), POLICY)
        promoted += verdict.decision == "promote"
        by_bound += _gained_at_95(verdict)
    print(f"no effect: {promoted} of {count} promoted; {by_bound} have a gain with a p-value below 5 %")
    return promoted <= count * ALLOWED


def noise(count: int, seed: int) -> bool:
    """Bases that are found to differ from themselves."""
    chance = Random(seed)
    floors = [judge(Holdout(chance).again(), POLICY).noise for _ in range(count)]
    differing = sum(floor is not None and floor.differs for floor in floors)
    print(f"base against base: {differing} of {count} found to differ ({1 - POLICY.confidence:.0%} is nominal)")
    return differing <= count * (1 - POLICY.confidence)


def nights(count: int, seed: int) -> bool:
    """Holdouts on which any of thirty candidates without effect was promoted."""
    chance, erred, unspent = Random(seed), 0, 0
    for _ in range(count):
        verdicts = list(_nights(Holdout(chance), NIGHTS))
        erred += any(verdict.decision == "promote" for verdict in verdicts)
        unspent += any(verdict.target.p_value <= 1 - POLICY.target_confidence for verdict in verdicts)
    print(
        f"{NIGHTS} nights on one holdout: {erred} of {count} holdouts ever promoted a candidate without effect; "
        f"{unspent} would have, were every night tested at {1 - POLICY.target_confidence:.0%}"
    )
    return erred <= max(1, count * 0.02)


def power(count: int, seed: int) -> bool:
    """Promoted among candidates with a gain of the size that the verdict states as detectable, on a fresh holdout."""
    chance, found = Random(seed), []
    print(f"{'share mended':>12} {'gain':>7} {'stated':>7} {'learned':>8} {'promoted':>9} {'after 9 failures':>16}")
    for gain in GAINS:
        measured = [Holdout(chance).candidate(gain) for _ in range(count)]
        verdicts = [judge(results, POLICY) for results in measured]
        later = [judge(results, POLICY, Look(history=(False,) * 9)) for results in measured]
        mean = statistics.fmean(verdict.target.gain.mean for verdict in verdicts)
        stated = statistics.fmean(verdict.target.minimum_detectable_gain or 1.0 for verdict in verdicts)
        promoted, promoted_later = (
            statistics.fmean(verdict.decision == "promote" for verdict in each) for each in (verdicts, later)
        )
        rate = statistics.fmean(verdict.target_state is Target.LEARNED for verdict in verdicts)
        print(f"{gain:>12.1f} {mean:>+7.3f} {stated:>7.3f} {rate:>8.1%} {promoted:>9.1%} {promoted_later:>16.1%}")
        found.append((mean, stated, rate))
    return any(mean >= stated for mean, stated, _ in found) and all(
        rate >= POWER for mean, stated, rate in found if mean >= stated
    )


def _nights(holdout: Holdout, count: int) -> Iterator[Verdict]:
    """The verdicts of candidates without effect, night after night on the same sessions."""
    history: tuple[bool, ...] = ()
    for _ in range(count):
        verdict = judge(holdout.candidate(), POLICY, Look(history=history))
        history = (*history, verdict.target_state is Target.LEARNED)
        yield verdict


def _gained_at_95(verdict: Verdict) -> bool:
    return verdict.target.p_value <= 1 - POLICY.confidence


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.gate", description=__doc__)
    parser.add_argument("--candidates", type=int, default=400, help="candidates of each simulation")
    parser.add_argument("--holdouts", type=int, default=40, help="holdouts of the simulation of thirty nights")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sys.exit(main(given.candidates, given.holdouts, given.seed))
