"""What is admitted to a training set: the policy of `[harvest]`; every field has a default that is safe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from shared.contracts.frozen import Frozen
from shared.redaction.policy import RedactionPolicy

PromptForm = Literal["full", "short", "none"]


class LikenessPolicy(Frozen):
    """How alike two records must be, in what is trained and in its prompt, before one is a near duplicate of the other.

    The defaults are calibrated: see docs/adr/0008-near-duplicates.md and 0023.
    """

    by_words: bool = Field(True, description="Find near duplicates by words: Jaccard over 3-shingles, by MinHash.")
    jaccard: float = Field(0.8, gt=0, le=1, description="Least Jaccard similarity of near duplicates. Default: 0.8.")
    by_meaning: bool = Field(
        True, description="Find one answer to a question in other words, by the cosine of embeddings."
    )
    cosine: float = Field(0.95, gt=0, le=1, description="Least cosine of such records. Default: 0.95.")


class SplitShares(Frozen):
    """Shares of lineages; a lineage's place is a keyed hash of its name, so it never moves."""

    holdout: float = Field(0.18, gt=0, lt=0.9, description="Share of lineages in the sealed holdout.")
    dev: float = Field(0.06, ge=0, lt=0.5, description="Share of lineages that training is watched by.")
    key: str = Field(
        "soulforge split", description="Key of the hash. Another key is another split of unsealed lineages."
    )


class Shares(Frozen):
    """How much of the training rows may come from one place: a guard against poisoning by repetition."""

    session: float = Field(0.1, gt=0, le=1, description="Largest share of one session.")
    session_floor: int = Field(50, ge=1, description="Rows that a session may have however small its share must be.")
    source: float = Field(1.0, gt=0, le=1, description="Largest share of one source.")
    sources: dict[str, float] = Field(default_factory=dict, description="Largest share of the sources named here.")


class Lengths(Frozen):
    """In tokens, estimated as a quarter of the UTF-8 bytes: the harvest knows no tokenizer."""

    row: int = Field(8192, gt=0, description="Longest row.")
    budget: int = Field(0, ge=0, description="Most tokens in all training rows, the newest first; 0: no limit.")


class Prompts(Frozen):
    """Context recovery: which share of rows is trained with its system prompt, with a short one, or with none."""

    full: float = Field(0.2, ge=0, le=1, description="Share of rows that keep the whole system prompt.")
    short: float = Field(0.0, ge=0, le=1, description="Share of rows that get the short one; the rest get none.")
    seed: int = Field(0, ge=0, description="Another seed draws other rows.")
    short_prompts: dict[str, str] = Field(
        default_factory=dict, description="Short prompt of each persona; else the first sentence of the full one."
    )

    @model_validator(mode="after")
    def shares_fit(self) -> Prompts:
        if self.full + self.short > 1:
            raise ValueError("full and short together are more than all rows")
        return self


class HarvestPolicy(Frozen):
    """Everything by which records are admitted, split and written."""

    licences: tuple[str, ...] = Field(
        ("owner", "CC0-1.0", "CC-BY-4.0", "MIT", "Apache-2.0"), description="Licences that may be trained on."
    )
    purpose: str = Field("train", description="What the owner of a record must have consented to.")
    redaction: RedactionPolicy = RedactionPolicy()
    likeness: LikenessPolicy = LikenessPolicy()
    common_passage: int = Field(
        6, ge=2, description="A passage that occurs in this many lineages is boilerplate, not contamination."
    )
    split: SplitShares = SplitShares()
    shares: Shares = Shares()
    lengths: Lengths = Lengths()
    prompts: Prompts = Prompts()
