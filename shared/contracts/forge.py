"""Stage 3, forge: a manifest becomes an adapter. Recorded by the forge; a failure by the owner of the stage."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from shared.contracts.frozen import Frozen
from shared.contracts.job import JobSpan
from shared.contracts.message import Fact

EngineName = Literal["trl", "unsloth"]
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
ADAPTER_FILES = frozenset({ADAPTER_CONFIG, ADAPTER_WEIGHTS})  #: all of an adapter; safetensors: nothing is unpickled
LARGEST_ADAPTER = 16 * 1024**3  #: bytes of one of its files


class SplitFigures(Frozen):
    """The audit of a rendered split. `prompts` counts the trained rows by the form of their system prompt.

    `skipped` (the base's template cannot show them) and `refused` (no trained token, too long, or not trained as served)
    count rows by reason.
    """

    rows: int
    examples: int
    tokens: int
    trained_tokens: int
    least_trained: int
    longest: int
    prompts: dict[str, int]
    skipped: dict[str, int]
    refused: dict[str, int]


class MaskAudit(Frozen):
    """The audits of both splits: what is trained on, and what the loss is measured on."""

    train: SplitFigures
    dev: SplitFigures


class ReplayFigures(Frozen):
    """The base's own answers among the examples: those made while it served, those made in the job, and how many are missing.

    `tokens` are the trained ones of all of them; `wanted_tokens` is the recipe's share of the rows' trained tokens.
    """

    cached: int = 0
    generated: int = 0
    missing: int = 0
    tokens: int = 0
    wanted_tokens: int = 0

    @property
    def warning(self) -> str | None:
        """That the share was not reached; None where it was."""
        if not self.missing:
            return None
        return (
            f"replay fell short: {self.tokens} of {self.wanted_tokens} tokens of the base's own answers, "
            f"about {self.missing} answers are missing, so that more of what it knew may be lost"
        )


class CheckpointFigures(Frozen):
    """A checkpoint of the run. Losses are those of its step, and of the dev split."""

    step: int
    loss: float | None = None
    dev_loss: float | None = None


class Provenance(Frozen):
    """What a run was made from and on. On a CPU, runs with the same values make the same bytes; on a GPU, nearly.

    Digests are `sha256:<hex>`; `examples` is over the tokens and labels that were trained and measured, replay included.
    """

    manifest: str
    base: str
    tokenizer: str
    template: str
    recipe: str
    recipe_reason: str = Field("", description="Why the recipe has its values, where they were picked.")
    examples: str
    code: str = Field(description="Of the job's own code.")
    lock: str = Field(description="Of the list of all packages in its environment.")
    seed: int
    device: str
    python: str


class Pilot(Frozen):
    """The measurement of one engine before a choice. `tokens_per_s` is None where it came to no figure; `fault` is why."""

    engine: EngineName
    tokens_per_s: float | None = None
    seconds: float = Field(description="What the pilot took, with its start.")
    fault: str = ""


class EngineChoice(Frozen):
    """Why a run was trained by its engine. `key` is what the pilots hold for: device, base, shape of the data, versions."""

    engine: EngineName
    why: str
    key: str = ""
    pilots: tuple[Pilot, ...] = ()


class PreferenceFigures(Frozen):
    """Held-out pairs, measured with the base and with the adapter.

    A margin is log p(chosen) - log p(rejected) in nats, the mean over the pairs; the NLL is that of the chosen answers, in
    nats per token.
    """

    pairs: int
    margin_before: float
    margin_after: float
    chosen_nll_before: float
    chosen_nll_after: float


class MemoryFigures(Frozen):
    """Memory of a run in bytes; on a GPU, of the device. `terms` is the estimate by its parts, made before the first step
    and above `idle`: the process with its libraries and without the base, 0 on a GPU.

    `terms` is empty where the base's files state too little. `peak` is measured, `idle` included.
    """

    rows: int = Field(ge=1, description="Most rows in memory at once.")
    length: int = Field(description="Tokens of the longest row.")
    checkpointing: bool = Field(description="Whether activations were computed again instead of kept.")
    terms: dict[str, int]
    idle: int
    peak: int = 0

    @property
    def estimated(self) -> int:
        return self.idle + sum(self.terms.values())


class TrainingFigures(Frozen):
    """What the trainer measured. `seen_tokens` counts all tokens passed, without padding.

    Losses are nats per trained token with loss sft; with another they are the mean of what it minimises.
    """

    loss: Literal["sft", "dpo", "kto", "sdft"] = Field("sft", description="The recipe's loss.")

    steps: int
    epochs: float
    final_loss: float | None = None
    dev_loss_before: float | None = None
    dev_loss_after: float | None = None
    dev_examples: int = Field(0, description="On how many of the dev examples in the audit the dev loss was measured.")
    seen_tokens: int
    tokens_per_s: float
    resumed_at: int = Field(0, description="The step of the checkpoint that it continued from; 0 from the beginning.")
    seconds: float = Field(0.0, description="Of training, those of the attempts that it continued from included.")
    energy_j: float | None = Field(
        None, description="As `seconds`, in joules by the device's own counter; null: it has none."
    )
    ended_early: str = Field("", description="Why it ended before its last step; empty where it did not.")
    taken: int = Field(0, description="The step whose adapter this is: the last one, or that of the least dev loss.")
    checkpoints: tuple[CheckpointFigures, ...] = Field((), description="The checkpoints, the latest 500 at most.")
    memory: MemoryFigures
    replay: ReplayFigures
    preference: PreferenceFigures | None = Field(
        None, description="None where no pairs are held out, and with Unsloth."
    )
    mask_audit: MaskAudit
    adapter: dict[str, str] = Field(description="The digest of each file of the adapter.")
    choice: EngineChoice = Field(description="The engine, and why it was taken.")
    versions: dict[str, str] = Field(description="The version of each library.")
    provenance: Provenance


class AdapterForged(Fact):
    """An adapter was trained; it is in the run's directory."""

    subject: ClassVar[str] = "adapter.forged"
    step: ClassVar[str] = "forge"
    job: ClassVar[str | None] = "trainer"

    adapter: str
    path: str
    base: str
    recipe: str
    fence: int
    training: TrainingFigures
    spans: tuple[JobSpan, ...] = ()
    isolation: tuple[str, ...] = Field((), description="What isolated its job, and which limits held.")


class AdapterFailed(Fact):
    """The ritual ends without an adapter that serves; `reason` is what went wrong and what to do."""

    subject: ClassVar[str] = "adapter.failed"
    step: ClassVar[str] = "fail"

    reason: str
    isolation: tuple[str, ...] = Field((), description="As in `adapter.forged`; empty where no job failed.")
