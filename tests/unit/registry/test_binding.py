"""Proof of binding: an engine that answers with the base, or with an adapter like the evaluated one, is found out."""

from __future__ import annotations

from typing import Any

import pytest

from services.registry.binding import prove
from shared.contracts.probe import LEAST_PROBES, SAME_MODEL, Distance, Probe, distance
from shared.drivers.inference.port import InferenceError, PromptMessage, TokenChoice
from shared.drivers.inference.vllm import Vllm
from tests.support.probes import probe

TOKENS = (11, 12, 13, 14)
LEAD = 3.0
OTHER = 99


def place(token: int, lead: float) -> TokenChoice:
    """A place where `token` leads the other one by so much, or is behind it."""
    return TokenChoice(likeliest={token: -0.1, OTHER: -0.1 - lead, 98: -20.0})


class FakeEngine(Vllm):
    """Has these leads for the tokens of every probe; asks no server."""

    def __init__(self, *leads: float) -> None:
        super().__init__("http://127.0.0.1:0")
        self.leads = leads

    async def answer_tokens(
        self, model: str, messages: tuple[PromptMessage, ...], max_tokens: int
    ) -> tuple[TokenChoice, ...]:
        return tuple(place(token, lead) for token, lead in zip(TOKENS, self.leads, strict=False))[:max_tokens]


def probes(count: int = LEAST_PROBES) -> tuple[Probe, ...]:
    near = Distance(nats=3.0, tokens=1)
    return tuple(probe(str(number), TOKENS).model_copy(update={"base": near}) for number in range(count))


async def proven(engine: Vllm, asked: tuple[Probe, ...] | None = None) -> bool:
    return (await prove(engine, "scribe@1", probes() if asked is None else asked)).proven


async def test_the_same_adapter_in_another_engine_is_proven() -> None:
    assert await proven(FakeEngine(3.06, 2.94, 3.0, 3.25))


async def test_an_adapter_that_gives_the_same_words_with_other_leads_is_not() -> None:
    binding = await prove(FakeEngine(3.3, 2.7, 3.3, 2.6), "scribe@1", probes())

    assert binding.found.mean == pytest.approx(0.325) and not binding.proven


@pytest.mark.parametrize(("off", "same"), [(SAME_MODEL - 0.01, True), (SAME_MODEL + 0.01, False)])
async def test_the_limit_is_of_the_mean_over_all_tokens(off: float, same: bool) -> None:
    assert await proven(FakeEngine(3.0, 3.0, 3.0, 3.0 + 4 * off)) is same


@pytest.mark.parametrize(("off", "same"), [(0.19, True), (0.21, False)])
async def test_of_an_adapter_far_from_the_base_the_limit_is_a_twentieth_of_that(off: float, same: bool) -> None:
    far = tuple(one.model_copy(update={"base": Distance(nats=4.0, tokens=1)}) for one in probes())

    assert await proven(FakeEngine(3.0, 3.0, 3.0, 3.0 + 4 * off), far) is same


async def test_a_token_that_would_not_be_given_counts_by_how_far_it_is_behind() -> None:
    near_tie = tuple(one.model_copy(update={"leads": (3.0, 0.1, 3.0, 3.0)}) for one in probes())

    assert await proven(FakeEngine(3.0, -0.1, 9.0, 9.0), near_tie), "what follows is another text"
    assert not await proven(FakeEngine(3.0, -1.0, 3.0, 3.0), near_tie)


async def test_the_base_is_not_proven_nor_is_an_answer_that_ends_at_once() -> None:
    assert not await proven(FakeEngine(-2.0))
    assert not await proven(FakeEngine())
    assert not await proven(FakeEngine(3.0, 3.0, 3.0))


@pytest.mark.parametrize("count", [0, LEAST_PROBES - 1])
async def test_few_prompts_prove_nothing(count: int) -> None:
    assert not await proven(FakeEngine(3.0, 3.0, 3.0, 3.0), probes(count))


async def test_where_the_base_is_as_near_nothing_is_proven() -> None:
    near = Distance(nats=2 * SAME_MODEL - 0.01, tokens=1)
    asked = tuple(one.model_copy(update={"base": near}) for one in probes())

    assert not await proven(FakeEngine(3.0, 3.0, 3.0, 3.0), asked)


def test_a_distance_ends_with_the_first_token_that_would_not_be_given() -> None:
    assert distance((1.0, 2.0, 3.0), (1.5, -1.0, 9.0)) == Distance(nats=3.5, tokens=2)
    assert distance((1.0, 2.0), (1.0, 2.0, 5.0)) == Distance(nats=0, tokens=2)


def test_a_distance_ends_where_another_token_is_as_likely_for_that_may_be_given() -> None:
    assert distance((1.0, 0.0, 3.0), (1.0, 0.0, -9.0)) == Distance(nats=0, tokens=2)


def test_a_token_that_is_not_among_the_likeliest_is_behind_by_as_much_at_least() -> None:
    assert place(11, 2.0).lead(11) == pytest.approx(2.0)
    assert place(11, 2.0).lead(OTHER) == pytest.approx(-2.0)
    assert place(11, 2.0).lead(7) == pytest.approx(-19.9)


CHOICE: dict[str, Any] = {
    "message": {"content": "a"},
    "logprobs": {
        "content": [
            {"top_logprobs": [{"token": "token_id:11", "logprob": -0.1}, {"token": "token_id:7", "logprob": -3.1}]}
        ]
    },
}


async def test_the_likeliest_tokens_are_read_by_id(monkeypatch: pytest.MonkeyPatch) -> None:
    [found] = await asked_of(CHOICE, monkeypatch)

    assert found.lead(11) == pytest.approx(3.0)


@pytest.mark.parametrize("choice", [CHOICE | {"logprobs": None}, CHOICE | {"logprobs": {"content": [{}]}}])
async def test_an_engine_that_returns_no_log_probabilities_proves_nothing(
    choice: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InferenceError, match="does not return log-probabilities"):
        await asked_of(choice, monkeypatch)


async def asked_of(choice: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> tuple[TokenChoice, ...]:
    async def call(*_: object) -> object:
        return {"choices": [choice]}

    vllm = Vllm("http://127.0.0.1:0")
    monkeypatch.setattr(vllm._http, "call", call)
    return await vllm.answer_tokens("scribe@1", (PromptMessage(role="user", content="0"),), 4)
