"""What an evaluator measured, made up: the verdict's input without a model."""

from __future__ import annotations

from collections.abc import Sequence

from services.verifier.results import Arm, HeldOut, ItemScore, Results


def items_of(kind: str, n: int, lost: int = 0, won: int = 0, wrong: int = 0) -> list[ItemScore]:
    """`n` pairs: `lost` base only, `won` candidate only, `wrong` neither, the rest both."""
    found = []
    for number in range(n):
        base = not lost <= number < lost + won + wrong
        candidate = number >= lost and not lost + won <= number < lost + won + wrong
        for arm, right in ((Arm.BASE, base), (Arm.CANDIDATE, candidate)):
            margin = 1.0 if right else -1.0
            found.append(ItemScore(kind=kind, item=f"{kind}-{number}", arm=arm, correct=right, margin=margin))
    return found


def held_out(
    number: int, base: bool | None, candidate: bool | None, nll_gain: float = 0.0, session: str = ""
) -> HeldOut:
    return HeldOut(
        id=f"h{number:03}",
        session=session or f"s{number // 2}",
        nll_base=2.0,
        nll_candidate=2.0 - nll_gain,
        pass_base=base,
        pass_candidate=candidate,
        answer_base="",
        answer_candidate="",
    )


def results(items: Sequence[ItemScore], holdout: Sequence[HeldOut], chance: float = 0.5) -> Results:
    return Results(
        base_digest="sha256:b",
        adapter_digest="sha256:a",
        suite_digest="sha256:s",
        holdout_digest="sha256:h",
        engine="test",
        seed=0,
        base_scores="measured",
        chance=dict.fromkeys(sorted({item.kind for item in items}), chance),
        items=tuple(items),
        holdout=tuple(holdout),
        probes=(),
    )


# Together they promote.
INTACT = items_of("words", 600, lost=6, won=4)
LEARNED = [held_out(n, False, n % 4 > 0) for n in range(40)]
