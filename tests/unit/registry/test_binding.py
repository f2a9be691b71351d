"""Proof of binding: an engine that answers with the base, or with another adapter, is found out."""

from __future__ import annotations

import pytest

from services.registry.binding import begins_alike, prove
from shared.contracts.verify import Probe
from shared.drivers.inference.port import PromptMessage
from shared.drivers.inference.vllm import Vllm

PROBES = tuple(
    Probe(
        prompt=f"prompt {number}",
        base=f"base says {number}",
        candidate=f"Note | subject {number}\n- A fact stands here.",
    )
    for number in range(3)
)


class FakeEngine(Vllm):
    """Answers each model from a table of styles; asks no server."""

    def __init__(self, styles: dict[str, str]) -> None:
        super().__init__("http://127.0.0.1:0")
        self.styles = styles

    async def answer(
        self, model: str, messages: tuple[PromptMessage, ...], max_tokens: int, salt: str | None = None
    ) -> str:
        probe = next(probe for probe in PROBES if probe.prompt == messages[0].content)
        return {"base": probe.base, "scribe": probe.candidate, "other": f"Another style. {probe.candidate}"}[
            self.styles[model]
        ]


@pytest.mark.parametrize(("answering", "proven"), [("scribe", True), ("base", False), ("other", False)])
async def test_only_the_adapter_that_was_evaluated_is_proven(answering: str, proven: bool) -> None:
    engine = FakeEngine({"the-base": "base", "scribe@1": answering})

    binding = await prove(engine, "scribe@1", "the-base", PROBES, 24)

    assert binding.proven is proven


async def test_without_probes_nothing_is_proven() -> None:
    assert not (await prove(FakeEngine({}), "scribe@1", "the-base", (), 24)).proven


def test_answers_are_compared_over_their_beginning() -> None:
    long = "the same first words, then"

    assert begins_alike(f"{long} one end", f"{long} another end")
    assert not begins_alike("the same", "the same first words")
