"""Proof that a loaded adapter is the one answering: compares its answers to fixed prompts with the evaluator's.

HTTP 200 after a load proves nothing: engines may silently answer with the base or with another adapter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.contracts.frozen import Frozen
from shared.drivers.inference.port import PromptMessage, Serving

if TYPE_CHECKING:
    from shared.contracts.verify import Probe

SAME_CHARACTERS = 24


class Binding(Frozen):
    """Result of the probes: answers `equal` to the evaluator's, answers `different` from the base's own now."""

    asked: int
    equal: int
    different: int

    @property
    def proven(self) -> bool:
        """True where most answers begin as the evaluator's, and none that should differ from the base is the base's.

        Most, not all: two engines round differently, and greedy answers may diverge at a near tie.
        """
        return self.asked > 0 and self.equal * 2 > self.asked and self.different > 0


async def prove(inference: Serving, version: str, base: str, probes: tuple[Probe, ...], max_tokens: int) -> Binding:
    """Ask version and base every probe. Raises InferenceError when the engine does not answer."""
    equal = different = 0
    for probe in probes:
        messages = (PromptMessage(role="user", content=probe.prompt),)
        answer = await inference.answer(version, messages, max_tokens)
        equal += begins_alike(answer, probe.candidate)
        different += answer != await inference.answer(base, messages, max_tokens)
    return Binding(asked=len(probes), equal=equal, different=different)


def begins_alike(one: str, other: str) -> bool:
    """True when the answers agree over their first SAME_CHARACTERS, or wholly where they are shorter."""
    return one.strip()[:SAME_CHARACTERS] == other.strip()[:SAME_CHARACTERS]
