"""The evaluator's measurements, `results.json`: the only input of the verdict."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import FailFast, Field

from shared.contracts.frozen import Frozen
from shared.contracts.probe import Probe
from shared.contracts.verify import Arm, Drift

RESULTS_FILE = "results.json"

STYLE = "style"  #: the kind whose items are the answers to another suite, checked by the persona's own rules

Item = TypeVar("Item")

# Within bounds that no log-likelihood reaches, so that no sum or difference of them overflows.
Nats = Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]
Answer = Annotated[str, Field(max_length=2000)]  # 48 tokens are some 200 characters
# A file of millions of wrong items is refused at the first: the errors would fill memory.
Items = Annotated[tuple[Item, ...], FailFast()]


class ItemScore(Frozen):
    """The score of one arm on one item of a suite.

    `session` is the cluster of the item: the item itself where it is independent of the others. `margin` is the
    log-likelihood of the right answer minus that of the best wrong one; `answer` is what was generated. Each is None in
    suites that measure the other.
    """

    suite: str
    kind: str
    item: str
    session: str
    arm: Arm
    correct: bool
    margin: Nats | None = None
    answer: Answer | None = None


class SuiteAsked(Frozen):
    """What of a suite was asked of each arm: its items, and by kind what a guesser scores."""

    digest: str
    version: int
    items: int
    chance: dict[str, Annotated[float, Field(ge=0, le=1)]]


class HeldOutAnswer(Frozen):
    """The scores of one arm on a held-out item, without the system prompt.

    `nll` is the mean over the reference answer's tokens, in nats; `passed` is None where the item has no checks and makes
    no call; `answer` is the start of the greedy answer that was scored.
    """

    nll: Nats
    passed: bool | None
    answer: str
    undecided: bool = Field(False, description="It fails because the patterns took too long.")


class Prompted(Frozen):
    """Whether the greedy answers under the item's system prompt pass; one that patterns do not decide in time does not."""

    base: bool
    candidate: bool


class HeldOut(Frozen):
    """The scores of all arms on one item of the sealed holdout."""

    id: str
    session: str
    arms: dict[Arm, HeldOutAnswer]
    prompted: Prompted | None = Field(None, description="None without a system prompt, or without rules.")
    tokens_saved: int | None = Field(
        None, ge=-1_000_000, le=1_000_000, description="By leaving the prompt out; None where it has none."
    )


class BaseScores(Frozen):
    """The base's scores on the suites, kept for later evaluations of adapters of the same base."""

    base_digest: str
    engine: str
    suites: dict[str, SuiteAsked]
    items: Items[ItemScore]


class Results(Frozen):
    """All measurements, with the digests of what was measured."""

    base_digest: str
    arms: dict[Arm, str | None] = Field(description="The arms asked, and the digest of the adapter of each.")
    holdout_digest: str
    engine: str
    seed: int
    base_scores: Literal["measured", "cached"]
    suites: dict[str, SuiteAsked]
    style_rules: int = Field(
        0, description="Rules of the persona by which its form was recognised; 0: it could not be."
    )
    items: Items[ItemScore]
    holdout: Items[HeldOut]
    holdout_left_out: dict[str, str] = Field(
        {}, description="Items that the base's chat template cannot render: reason by id."
    )
    prompts_shown: bool = Field(True, description="False: the base's chat template cannot show the system prompts.")
    probes: Items[Probe]
    champion_fault: str | None = Field(None, description="Why the champion that was to be asked was not.")
    repeated: Items[ItemScore] = Field((), description="The base again, on some of its items, in other batches.")
    drift: Drift | None = Field(None, description="None where no suite asks general prompts.")

    def kept_base_scores(self) -> BaseScores:
        """The base arm, for later evaluations of adapters of the same base, without what depends on the persona."""
        return BaseScores(
            base_digest=self.base_digest,
            engine=self.engine,
            suites=self.suites,
            items=tuple(item for item in self.items if item.arm is Arm.BASE and item.kind != STYLE),
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
