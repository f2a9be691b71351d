"""Stage 3, forge: a manifest becomes an adapter. Recorded by the forge; a failure by the owner of the stage."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from shared.contracts.frozen import Frozen
from shared.contracts.job import JobSpan
from shared.contracts.message import Fact

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
ADAPTER_FILES = frozenset({ADAPTER_CONFIG, ADAPTER_WEIGHTS})  #: all of an adapter; safetensors: nothing is unpickled
LARGEST_ADAPTER = 16 * 1024**3  #: bytes of one of its files


class SplitFigures(Frozen):
    """The audit of a rendered split. `prompts` counts the trained rows by the form of their system prompt.

    `skipped` (the base's template cannot show them) and `refused` (no trained token, or too long) count rows by reason.
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


class TrainingFigures(Frozen):
    """What the trainer measured. Losses are nats per trained token; `seen_tokens` counts all tokens passed, without padding."""

    steps: int
    epochs: float
    final_loss: float | None = None
    dev_loss_before: float | None = None
    dev_loss_after: float | None = None
    seen_tokens: int
    tokens_per_s: float
    resumed_at: int = Field(0, description="The step of the checkpoint that it continued from; 0 from the beginning.")
    replay: ReplayFigures
    mask_audit: MaskAudit
    adapter: dict[str, str] = Field(description="The digest of each file of the adapter.")
    versions: dict[str, str] = Field(description="The version of each library.")


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
