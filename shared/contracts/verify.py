"""Stage 4, verification: an adapter is evaluated and gets a verdict. Recorded by the verifier."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Literal

from pydantic import Field

from shared.contracts.frozen import Frozen
from shared.contracts.job import JobSpan
from shared.contracts.message import Fact

Decision = Literal["promote", "banish", "inconclusive"]

LARGEST_RESULTS = 16 * 1024**2  #: bytes of the evaluator's results, some twelve thousand held-out items
LARGEST_VERDICT = 256 * 1024  #: bytes of a verdict as JSON: it goes on the bus, where a message is at most 1 MiB


class Probe(Frozen):
    """A fixed prompt and the greedy answers of base and adapter, as the evaluator measured them."""

    prompt: str
    base: str
    candidate: str


class Arm(StrEnum):
    """A model that answers: all arms get the same items. The champion is asked where the persona has one."""

    BASE = "base"
    CANDIDATE = "candidate"
    CHAMPION = "champion"


class SuiteState(StrEnum):
    """What is shown about the candidate on a suite: no loss beyond the margin, such a loss, or neither."""

    INTACT = "intact"
    BROKEN = "broken"
    UNPROVEN = "unproven"


class Target(StrEnum):
    LEARNED = "learned"
    UNLEARNED = "unlearned"
    UNPROVEN = "unproven"


class SuitePolicy(Frozen):
    """What a suite demands of a candidate. Its file has the values; the owner's policy replaces single ones."""

    blocking: bool = Field(True, description="False: a loss on it is a warning, and no reason against a promotion.")
    margin: float = Field(0.03, gt=0, lt=1, description="Largest tolerated drop against the base, a share of 1.")
    min_items: int = Field(200, ge=1, description="Fewest items above chance that can carry a verdict.")


class Policy(Frozen):
    """Thresholds of a promotion. Scores and margins are shares of 1; NLL is nats per token."""

    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence of every one-sided bound. Default: 0.95.")
    suites: dict[str, SuitePolicy] = Field({}, description="By suite, what replaces the values of its file.")
    min_gain: float = Field(0.05, gt=0, lt=1, description="Smallest worthwhile gain in rule score. Default: 0.05.")
    min_nll_gain: float = Field(
        0.05, gt=0, description="Smallest worthwhile gain in NLL, without rules. Default: 0.05."
    )
    min_held_out: int = Field(12, ge=1, description="Fewest held-out items that can carry a verdict. Default: 12.")
    min_sessions: int = Field(
        5, ge=5, description="Fewest sessions that they come from. Default: 5, the least for valid bounds."
    )
    resamples: int = Field(4000, ge=200, description="Resamples of the cluster bootstrap. Default: 4000.")
    seed: int = 0


class Interval(Frozen):
    low: float
    high: float


class Score(Frozen):
    """Right answers of one arm, with Wilson's two-sided interval. It treats items as independent: descriptive, no test."""

    right: int
    n: int
    share: float
    interval: Interval


class Gain(Frozen):
    """Mean paired gain of the candidate, with one-sided bounds by a cluster bootstrap over sessions."""

    mean: float
    low: float | None = Field(description="None where fewer than two sessions leave it unbounded.")
    high: float | None


class TargetEvidence(Frozen):
    """Evidence from the sealed holdout. `metric` decides: the rules where enough items have them, else NLL."""

    metric: Literal["rule", "nll"]
    items: int
    sessions: int
    base: Score | None
    candidate: Score | None
    rule_gain: Gain | None
    nll_base: float
    nll_candidate: float
    nll_gain: Gain

    @property
    def gain(self) -> Gain:
        return self.rule_gain if self.metric == "rule" and self.rule_gain is not None else self.nll_gain


class KindEvidence(Frozen):
    """Evidence from one kind of a suite. Not `counted` where the base is not shown to be above chance on it."""

    kind: str
    n: int
    chance: float
    base: Score
    candidate: Score
    counted: bool
    lost: int
    won: int


class SuiteEvidence(Frozen):
    """Evidence from all counted kinds of a suite. `drop`: the base's score minus the candidate's, with Tango's bounds."""

    state: SuiteState
    policy: SuitePolicy
    digest: str
    items: int
    base: Score
    candidate: Score
    drop: float
    drop_low: float
    drop_high: float
    minimum_detectable_drop: float
    lost: tuple[str, ...]
    won: tuple[str, ...]
    kinds: tuple[KindEvidence, ...]


class AnswerFigures(Frozen):
    """The form of an arm's answers to general prompts."""

    words: float = Field(ge=0, description="Mean length of an answer.")
    distinct: float = Field(ge=0, le=1, description="Share of all pairs of adjacent words that are different ones.")
    repeating: float = Field(ge=0, le=1, description="Share of answers that have four words in a row more than once.")


class Drift(Frozen):
    """How far the candidate moved on general prompts. Shown and warned about; it decides nothing."""

    prompts: int = Field(ge=0)
    kl: float = Field(ge=0, le=1e6, description="KL divergence of the candidate from the base, nats a token.")
    answers: dict[Arm, AnswerFigures]


class Verdict(Frozen):
    """The decision, its reasons in plain sentences, and all of its evidence."""

    decision: Decision
    reasons: tuple[str, ...]
    suites_state: SuiteState = Field(description="The worst state of a blocking suite.")
    target_state: Target
    target: TargetEvidence
    suites: dict[str, SuiteEvidence]
    policy: Policy
    drift: Drift | None = None
    warnings: tuple[str, ...] = Field((), description="What was not as it should be, and decided nothing.")


class Judged(Fact):
    """The fields of both verdicts: the scores, the decision and its reasons."""

    job: ClassVar[str | None] = "evaluator"

    adapter: str
    decision: Decision
    reasons: tuple[str, ...]
    verdict: Verdict
    results: str
    spans: tuple[JobSpan, ...] = ()
    isolation: tuple[str, ...] = Field((), description="What isolated its job, and which limits held.")


class AdapterVerified(Judged):
    """The adapter learned its persona and is non-inferior on every blocking suite."""

    subject: ClassVar[str] = "adapter.verified"
    step: ClassVar[str] = "verify"


class AdapterBanished(Judged):
    """The adapter did not pass (`banish`) or the evidence was too thin (`inconclusive`); it stays in the Lab."""

    subject: ClassVar[str] = "adapter.banished"
    step: ClassVar[str] = "verify"
