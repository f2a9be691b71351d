"""Models are asked alone: an answer that was computed beside others is asked for again."""

from __future__ import annotations

from typing import Any

import pytest

from services.orchestrator.handover import probes
from services.orchestrator.handover.probes import ask_all, compare_runes, differing, missing
from services.orchestrator.steps import Answers
from shared.drivers.inference.port import Activity, InferenceError


class Engine:
    """A rune and its engine, which answers differently while others ask; `beside` is how many answers are disturbed."""

    def __init__(self, beside: int = 0) -> None:
        self.beside = beside
        self.finished = 0
        self.salts: set[str | None] = set()
        self.inference = self

    async def models(self) -> frozenset[str]:
        return frozenset({"base", "broken"})

    async def drain(self, grace_s: float) -> int:
        return 0

    async def activity(self) -> Activity:
        return Activity(running=0, waiting=0, finished_total=self.finished)

    async def answer(self, model: str, messages: Any, max_tokens: int, salt: str | None = None) -> str:
        if model == "broken":
            raise InferenceError("no such adapter")
        self.salts.add(salt)
        self.finished += 1
        if self.beside:
            self.beside -= 1
            self.finished += 1
            return "tongs"
        return "hammer"


async def test_an_answer_computed_beside_others_is_asked_for_again_and_never_from_a_cache() -> None:
    engine = Engine(beside=3)

    assert await ask_all(engine) == {"base": "hammer", "broken": None}  # type: ignore[arg-type]
    assert len(engine.salts) == 4
    assert None not in engine.salts


async def test_an_engine_that_is_never_alone_is_believed_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "ALONE_WITHIN_S", 0.0)

    assert (await ask_all(Engine(beside=99)))["base"] == "tongs"  # type: ignore[arg-type]


def test_what_was_not_asked_before_can_neither_differ_nor_be_missing() -> None:
    before = {"base": "a", "gone": "b", "new": None}
    after: Answers = {"base": "x", "new": "c"}

    assert differing(before, after) == ["base"]
    assert missing(before, after) == ["gone"]


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({}, {}, (None, ())),
        ({"r": {"base": None}}, {"r": {"base": "a"}}, (None, ())),
        ({"r": {"base": "a"}}, {}, (None, ())),
        ({"r": {"base": "a"}}, {"r": {"base": "a"}}, (True, ())),
        ({"r": {"base": "a"}}, {"r": {"base": "b"}}, (False, ())),
        ({"r": {"base": "a", "s": "b"}}, {"r": {"base": "a"}}, (True, ("s",))),
        ({"r": {"base": "a"}, "q": {"base": "a"}}, {"r": {"base": "a"}}, (True, ("base",))),
    ],
)
def test_an_anvil_answers_as_before_if_every_model_of_every_rune_does(
    before: dict[str, Any], after: dict[str, Any], found: tuple[bool | None, tuple[str, ...]]
) -> None:
    assert compare_runes(before, after) == found
