"""Proof that a loaded adapter is the one answering: compares its answers to fixed prompts with the evaluator's.

HTTP 200 after a load proves nothing: engines may silently answer with the base or with another adapter. Equal words prove little:
an adapter of another seed gives many of them. So the lead of every token over the second best one is compared. In two engines it
differs by rounding, and between two adapters by far more: docs/binding.md has the measurements, and how seldom another one passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.contracts.frozen import Frozen
from shared.contracts.probe import LEAST_PROBES, SAME_MODEL, Distance, distance, limit, total
from shared.drivers.inference.port import PromptMessage, Serving

if TYPE_CHECKING:
    from shared.contracts.probe import Probe


class Binding(Frozen):
    """Result of the probes: the distances of what answers, and of the base, from the adapter as it was evaluated."""

    asked: int
    found: Distance
    base: Distance

    @property
    def proven(self) -> bool:
        """True where what answers is as near to the adapter as the same adapter is, and the base at least twice as far."""
        same = self.found.mean <= limit(self.base.mean)
        return self.asked >= LEAST_PROBES and same and self.base.mean >= 2 * SAME_MODEL

    def __str__(self) -> str:
        return (
            f"its answers to {self.asked} prompts are {self.found.mean:.2f} nats a token from the evaluator's, at most "
            f"{limit(self.base.mean):.2f} are the same adapter's; the base is {self.base.mean:.2f} from them"
        )


async def prove(inference: Serving, version: str, probes: tuple[Probe, ...]) -> Binding:
    """Ask version every probe. Raises InferenceError when the engine does not answer."""
    found = [await _ask(inference, version, probe) for probe in probes]
    return Binding(asked=len(probes), found=total(found), base=total(probe.base for probe in probes))


async def _ask(inference: Serving, version: str, probe: Probe) -> Distance:
    messages = (PromptMessage(role="user", content=probe.prompt),)
    places = await inference.answer_tokens(version, messages, len(probe.tokens))
    leads = [place.lead(token) for place, token in zip(places, probe.tokens, strict=False)]
    # Where it ends its answer earlier, it prefers that to the next token, by a lead that is not known.
    return distance(probe.leads, leads if len(places) >= len(probe.tokens) else [*leads, 0.0])
