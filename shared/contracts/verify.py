"""Stage 4, verification: an adapter is evaluated and gets a verdict. Recorded by the verifier."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from shared.contracts.frozen import Frozen
from shared.contracts.intent import Refinement
from shared.contracts.job import JobSpan
from shared.contracts.message import Fact

Decision = Literal["promote", "banish", "inconclusive"]


def rounded(value: float) -> float:
    """Twelve digits: the last ones of a float depend on the machine's mathematics, and a verdict is recomputed on others."""
    return float(f"{value:.12g}")


Figure = Annotated[float, AfterValidator(rounded)]

EVIDENCE_FILE = "evidence.json"  #: what a verdict follows from, in the folder of its job and in the bundle

LARGEST_RESULTS = 16 * 1024**2  #: bytes of the evaluator's results, some twelve thousand held-out items
LARGEST_EVIDENCE = LARGEST_RESULTS  #: of what of them is kept with an adapter
LARGEST_VERDICT = 256 * 1024  #: bytes of a verdict as JSON: it goes on the bus, where a message is at most 1 MiB


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
    max_lost: int | None = Field(
        None, ge=0, description="Most items that may be lost, where their number decides in place of the margin."
    )


class ContextPolicy(Frozen):
    """What a candidate without its system prompt may lose against the base with it."""

    blocking: bool = Field(False, description="False: a loss is a warning, and no reason against a promotion.")
    margin: float = Field(
        0.1, gt=0, lt=1, description="Largest tolerated loss in rule score, a share of 1. Default: 0.1."
    )


class Policy(Frozen):
    """Thresholds of a promotion. Scores and margins are shares of 1; NLL is nats per token."""

    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="Confidence of every one-sided bound but the target's. Default: 0.95."
    )
    target_confidence: float = Field(
        0.99,
        gt=0.5,
        lt=1,
        description="Confidence that the target improved, over all looks at a session. Default: 0.99.",
    )
    looks: int = Field(60, ge=1, description="Verdicts after which a sealed session carries no more. Default: 60.")
    champion_margin: float = Field(
        0.1, gt=0, lt=1, description="Largest tolerated loss in rule score against the champion. Default: 0.1."
    )
    suites: dict[str, SuitePolicy] = Field({}, description="By suite, what replaces the values of its file.")
    context: ContextPolicy = Field(ContextPolicy(), description="The candidate without its prompt, the base with it.")
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


class Look(Frozen):
    """The place of a verdict among those on the same sealed sessions.

    `history`: whether each earlier verdict on the most used of its sessions showed learning, oldest first. `worn`: the
    sessions that carry no further verdict.
    """

    history: tuple[bool, ...] = ()
    worn: tuple[str, ...] = ()


class Champion(Frozen):
    """The champion of the persona when its candidate is judged. `obstacle`: why it is not asked what the candidate is."""

    version: str
    adapter: str
    obstacle: str | None = None
    serves: bool = Field(True, description="Whether it answers for its persona; one that does not is replaced.")


class Interval(Frozen):
    low: Figure
    high: Figure


class Score(Frozen):
    """Right answers of one arm, with Wilson's two-sided interval. It treats items as independent: descriptive, no test."""

    right: int
    n: int
    share: Figure
    interval: Interval


class Gain(Frozen):
    """Mean paired gain of the candidate, with one-sided bounds by a cluster bootstrap over sessions."""

    mean: Figure
    low: Figure | None = Field(description="None where fewer than two sessions leave it unbounded.")
    high: Figure | None


class TargetEvidence(Frozen):
    """Evidence from the sealed holdout. `metric` decides: the rules where enough items have them, else NLL.

    `p_value`: of a gain this large in the sum of all sessions by chance, by the exact sign-flip test. It is tested at
    `level`, which is left of the policy's after earlier looks.
    """

    metric: Literal["rule", "nll"]
    items: int
    sessions: int
    worn: int = Field(0, description="Sessions that are left out, for they carried enough verdicts.")
    looks: int = Field(1, description="Verdicts on the most used of its sessions, this one included.")
    p_value: Figure = 1.0
    level: Figure = 0.0
    minimum_detectable_gain: Figure | None = Field(None, description="None where no gain could be shown.")
    base: Score | None
    candidate: Score | None
    rule_gain: Gain | None
    nll_base: Figure
    nll_candidate: Figure
    nll_gain: Gain

    @property
    def gain(self) -> Gain:
        return self.rule_gain if self.metric == "rule" and self.rule_gain is not None else self.nll_gain


class KindEvidence(Frozen):
    """Evidence from one kind of a suite. Not `counted` where the base is not shown to be above chance on it."""

    kind: str
    n: int
    chance: Figure
    base: Score
    candidate: Score
    counted: bool
    lost: int
    won: int


class SuiteEvidence(Frozen):
    """Evidence from all counted kinds of a suite. `drop`: the base's score minus the candidate's, with one-sided bounds.

    The bounds are Tango's; where items share sessions, the wider of those and of the cluster bootstrap's. `p_value`: of such
    a drop by chance, by the exact McNemar test over sessions; `adjusted`: the same by Holm, over all suites of the verdict.
    """

    state: SuiteState
    policy: SuitePolicy
    digest: str
    items: int
    base: Score
    candidate: Score
    drop: Figure
    drop_low: Figure
    drop_high: Figure
    p_value: Figure = 1.0
    adjusted: Figure = 1.0
    minimum_detectable_drop: Figure
    lost: tuple[str, ...]
    won: tuple[str, ...]
    kinds: tuple[KindEvidence, ...]


class Loss(Frozen):
    """The score of the arm that is compared with minus the candidate's, with one-sided bounds; None where there are none."""

    mean: Figure
    low: Figure | None
    high: Figure | None
    margin: Figure


class ContextEvidence(Frozen):
    """Evidence that the system prompt moved into the weights: four arms on the held-out items with a prompt and rules.

    `loss` is of the candidate without the prompt against the base with it. `tokens_saved`: of a request that leaves the prompt
    out, by the base's chat template, on all held-out items with a prompt.
    """

    state: SuiteState
    items: int
    sessions: int
    base: Score
    base_prompted: Score
    candidate: Score
    candidate_prompted: Score
    loss: Loss
    tokens_saved: Gain


class Noise(Frozen):
    """The base against itself, on items that it was asked again in other batches: what differs is noise of the engine.

    `p_value`: two-sided, by the exact McNemar test. Where the base `differs`, its scores are none to compare with.
    """

    items: int
    lost: int
    won: int
    p_value: Figure
    differs: bool


class Rank(StrEnum):
    """How a candidate compares with the champion on the target and on every blocking suite."""

    FIRST = "first"  #: there is no champion, or one that does not serve
    SAME = "same"  #: it is the champion's adapter
    NON_INFERIOR = "non-inferior"
    INFERIOR = "inferior"
    UNPROVEN = "unproven"
    NOT_COMPARED = "not compared"


class ChampionEvidence(Frozen):
    """The candidate against the champion. `losses` is by suite, with `target` among them."""

    rank: Rank
    reason: str
    champion: Champion | None = None
    losses: dict[str, Loss] = Field({}, description="By suite; `target` is the holdout.")

    @property
    def replaced(self) -> bool:
        """Whether the candidate may take the champion's place by itself."""
        return self.rank in (Rank.FIRST, Rank.SAME, Rank.NON_INFERIOR)


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
    suites_state: SuiteState = Field(description="The worst state of what blocks: suites, and context if so.")
    target_state: Target
    target: TargetEvidence
    suites: dict[str, SuiteEvidence]
    policy: Policy
    look: Look = Look()
    champion: ChampionEvidence = ChampionEvidence(rank=Rank.FIRST, reason="There is no champion.")
    context: ContextEvidence | None = Field(None, description="None where no held-out item is asked with a prompt.")
    noise: Noise | None = None
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
    evidence: str = Field(description="Path of the file from which the verdict follows, without any text.")
    evidence_digest: str
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

    suggested: Refinement | None = Field(None, description="A gentler recipe; null where it harmed no suite.")
