"""What the evaluator measured, as it stands in `results.json`: the verdict's only input."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from shared.contracts.frozen import Frozen
from shared.contracts.verify import Probe

RESULTS_FILE = "results.json"
BASE_SCORES_FILE = "base_scores.json"

Finite = Annotated[float, Field(allow_inf_nan=False)]


class Arm(StrEnum):
    """Whose answers: both arms see the same items in the same batches."""

    BASE = "base"
    CANDIDATE = "candidate"


class ItemScore(Frozen):
    """One arm on one item. `margin` is how far the right answer is ahead of the best wrong one, in nats."""

    kind: str
    item: str
    arm: Arm
    correct: bool
    margin: Finite


class HeldOut(Frozen):
    """Both arms on one item of the sealed holdout, without the system prompt.

    `nll_*` is the mean over the reference answer's tokens, in nats; `pass_*` is None where the item has no checks;
    `answer_*` is the start of the greedy answer that was scored.
    """

    id: str
    session: str
    nll_base: Finite
    nll_candidate: Finite
    pass_base: bool | None
    pass_candidate: bool | None
    answer_base: str
    answer_candidate: str


class BaseScores(Frozen):
    """The base arm of a suite, kept for later evaluations of adapters of the same base."""

    base_digest: str
    suite_digest: str
    engine: str
    items: tuple[ItemScore, ...]


class Results(Frozen):
    """Everything that was measured, and what it was measured on. `chance` is by kind."""

    base_digest: str
    adapter_digest: str | None
    suite_digest: str
    holdout_digest: str
    engine: str
    seed: int
    base_scores: Literal["measured", "cached"]
    chance: dict[str, float]
    items: tuple[ItemScore, ...]
    holdout: tuple[HeldOut, ...]
    holdout_left_out: dict[str, str] = Field(
        {}, description="Items that the base's chat template cannot show: why, by id."
    )
    probes: tuple[Probe, ...]


class Evaluated(Frozen):
    """What the evaluator's `result.json` has: where the results are, and their counts. `left_out` is by reason."""

    results: str
    digest: str
    engine: str
    base_scores: Literal["measured", "cached"]
    items: int
    held_out: int
    left_out: dict[str, int]
