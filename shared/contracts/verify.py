"""Stage 4, verify: an adapter meets its verdict. Stated by the verifier."""

from __future__ import annotations

from typing import Any, ClassVar

from shared.contracts.frozen import Frozen
from shared.contracts.job import JobSpan
from shared.contracts.message import Fact


class Probe(Frozen):
    """A fixed prompt and the greedy answers of base and adapter, as the evaluator heard them."""

    prompt: str
    base: str
    candidate: str


class Judged(Fact):
    """What both verdicts say: the scores, the decision and its reasons."""

    job: ClassVar[str | None] = "evaluator"

    adapter: str
    decision: str
    reasons: tuple[str, ...]
    verdict: dict[str, Any]
    results: str
    spans: tuple[JobSpan, ...] = ()
    isolation: tuple[str, ...] = ()


class AdapterVerified(Judged):
    """The adapter learned its persona and its base logic is non-inferior."""

    subject: ClassVar[str] = "adapter.verified"
    step: ClassVar[str] = "verify"


class AdapterBanished(Judged):
    """The adapter did not pass (`banish`) or the evidence was too thin (`inconclusive`); it stays in the Lab."""

    subject: ClassVar[str] = "adapter.banished"
    step: ClassVar[str] = "verify"
