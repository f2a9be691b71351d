"""`[evaluation]`: what an evaluator job may use, and what a promotion takes."""

from __future__ import annotations

from typing import ClassVar

from pydantic import ByteSize, Field

from shared.config.tables import GIB, Section, Size
from shared.contracts.intent import MOST_REFINEMENTS
from shared.contracts.probe import LEAST_PROBES
from shared.contracts.verify import Policy


class VerifierSettings(Section):
    table: ClassVar[str] = "evaluation"

    memory: Size = Field(ByteSize(10 * GIB), gt=0, description="Most resident memory of an evaluator job.")
    time_limit_s: float = Field(2 * 3600.0, gt=0, description="Longest life of an evaluator job, in seconds.")
    stalled_after_s: float = Field(
        1800.0, gt=0, description="Seconds without progress after which the job is ended; its attempt has failed."
    )
    max_attempts: int = Field(3, ge=1, description="Attempts after which lost GPU work fails the ritual.")
    probes: int = Field(
        12, ge=LEAST_PROBES, le=48, description="Fixed prompts whose greedy answers later prove which adapter answers."
    )
    refinements: int = Field(
        0,
        ge=0,
        le=MOST_REFINEMENTS,
        description="Rituals with gentler recipes that a banished one asks for, one by one.",
    )
    verdict: Policy = Field(Policy(), description="What a promotion takes.")
