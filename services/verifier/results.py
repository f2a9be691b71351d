"""The evaluator's measurements, `results.json`: the only input of the verdict."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, TypeVar

from pydantic import FailFast, Field

from shared.contracts.frozen import Frozen
from shared.contracts.verify import Probe

RESULTS_FILE = "results.json"

Item = TypeVar("Item")

# Within bounds that no log-likelihood reaches, so that no sum or difference of them overflows.
Nats = Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]
# A file of millions of wrong items is refused at the first: the errors would fill memory.
Items = Annotated[tuple[Item, ...], FailFast()]


class Arm(StrEnum):
    """The model that answers: both arms get the same items in the same batches."""

    BASE = "base"
    CANDIDATE = "candidate"


class ItemScore(Frozen):
    """The score of one arm on one item. `margin`: log-likelihood of the right answer minus the best wrong one, in nats."""

    kind: str
    item: str
    arm: Arm
    correct: bool
    margin: Nats


class HeldOut(Frozen):
    """The scores of both arms on one item of the sealed holdout, without the system prompt.

    `nll_*` is the mean over the reference answer's tokens, in nats; `pass_*` is None where the item has no checks
    and makes no call;
    `answer_*` is the start of the greedy answer that was scored.
    """

    id: str
    session: str
    nll_base: Nats
    nll_candidate: Nats
    pass_base: bool | None
    pass_candidate: bool | None
    answer_base: str
    answer_candidate: str
    undecided: tuple[Arm, ...] = Field((), description="Arms that fail because the patterns took too long.")


class BaseScores(Frozen):
    """The base's scores on a suite, kept for later evaluations of adapters of the same base."""

    base_digest: str
    suite_digest: str
    engine: str
    items: Items[ItemScore]


class Results(Frozen):
    """All measurements, with the digests of what was measured. `chance` is by kind."""

    base_digest: str
    adapter_digest: str | None
    suite_digest: str
    holdout_digest: str
    engine: str
    seed: int
    base_scores: Literal["measured", "cached"]
    chance: dict[str, Annotated[float, Field(ge=0, le=1)]]
    items: Items[ItemScore]
    holdout: Items[HeldOut]
    holdout_left_out: dict[str, str] = Field(
        {}, description="Items that the base's chat template cannot render: reason by id."
    )
    probes: Items[Probe]

    def kept_base_scores(self) -> BaseScores:
        """The base arm, for later evaluations of adapters of the same base."""
        return BaseScores(
            base_digest=self.base_digest,
            suite_digest=self.suite_digest,
            engine=self.engine,
            items=tuple(item for item in self.items if item.arm is Arm.BASE),
        )


class Evaluated(Frozen):
    """What the evaluator's `result.json` has: where the results are, and their counts. `left_out` is by reason."""

    results: str
    digest: str
    engine: str
    base_scores: Literal["measured", "cached"]
    items: int
    held_out: int
    left_out: dict[str, int]
