"""The interface of the evaluator job: its inputs by digest, its limits, and its output directory."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from pydantic import Field, model_validator

from shared.jobs.start_limit import GpuJob

HOLDOUT = "holdout"  #: the split's folder in the sealed holdout


class EvaluatorJob(GpuJob):
    """`job.json` of one evaluation. All paths are absolute; only `output` is written to.

    Without an adapter the candidate is the base itself: the null control.
    """

    ritual: UUID
    attempt: int = Field(ge=1)
    fence: int = Field(ge=0)
    base: Path = Field(description="Directory of the base model: safetensors, tokenizer, chat template.")
    base_digest: str = Field(description="shared.storage.digests.digest_tree of `base`.")
    adapter: Path | None = Field(None, description="PEFT directory of the candidate.")
    adapter_digest: str | None = Field(None, description="shared.storage.digests.digest_tree of `adapter`.")
    champion: Path | None = Field(
        None, description="PEFT directory of the persona's champion, asked beside the candidate."
    )
    champion_digest: str | None = Field(None, description="shared.storage.digests.digest_tree of `champion`.")
    holdout: Path = Field(description="Directory of the sealed holdout, which contains holdout/ in shards.")
    holdout_digest: str = Field(description="shared.storage.digests.digest_tree of `holdout`.")
    suites: Path = Field(description="Folder of the suites, see shared.storage.suites.")
    output: Path
    seed: int = Field(0, ge=0, lt=2**31)
    base_scores: Path | None = Field(None, description="BaseScores of an earlier evaluation of this base.")
    answer_max_tokens: int = Field(80, ge=1, description="Longest generated answer to a holdout item.")
    probes: int = Field(0, ge=0, description="Prompts that are to prove later which adapter answers.")

    @model_validator(mode="after")
    def adapter_has_a_digest(self) -> EvaluatorJob:
        if (self.adapter is None) != (self.adapter_digest is None):
            raise ValueError("adapter and adapter_digest are given together or not at all")
        if (self.champion is None) != (self.champion_digest is None):
            raise ValueError("champion and champion_digest are given together or not at all")
        return self
