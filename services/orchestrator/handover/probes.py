"""Ask every model the same question before and after a hand-over: equal answers show that the same weights answer.

Greedy answers repeat only where the arithmetic does: in 16 bits another request in the same batch, or a prefix taken
from a cache, may change a close choice. So each model is asked while nothing else runs, and never from a cache.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from shared.drivers.inference.port import InferenceError, PromptMessage

if TYPE_CHECKING:
    from services.orchestrator.engine import Rune
    from services.orchestrator.steps import Answers

log = structlog.get_logger()
QUESTION = (PromptMessage(role="user", content="Name three things that a smith needs."),)
TOKENS = 12
ALONE_WITHIN_S = 30.0
IDLE_S = 5.0


async def ask_all(rune: Rune, without: frozenset[str] = frozenset()) -> Answers:
    """The answer of each model; None for one that cannot be asked, empty when the engine does not answer."""
    return {model: await _ask(rune, model) for model in sorted(await rune.models() - without)}


async def _ask(rune: Rune, model: str) -> str | None:
    deadline = monotonic() + ALONE_WITHIN_S
    try:
        while True:
            answer, alone = await _ask_alone(rune, model)
            if alone or monotonic() > deadline:
                return answer
    except InferenceError as error:
        log.warning("model not probed", model=model, error=str(error))
        return None


async def _ask_alone(rune: Rune, model: str) -> tuple[str, bool]:
    """The answer, and whether the engine did nothing else meanwhile."""
    await rune.drain(IDLE_S)
    before = await rune.activity()
    answer = await rune.inference.answer(model, QUESTION, TOKENS, salt=uuid4().hex)
    after = await rune.activity()
    return answer, after.finished_total == before.finished_total + 1 and not before.left and not after.left


def differing(before: Answers, after: Answers) -> list[str]:
    """The models that answered before and give a different answer now; a missing answer is not a different one."""
    return sorted(
        model for model, answer in before.items() if answer is not None and after.get(model) not in (None, answer)
    )


def missing(before: Answers, after: Answers) -> list[str]:
    """The models that answered before and do not answer now."""
    return sorted(model for model, answer in before.items() if answer is not None and after.get(model) is None)


def compare_runes(before: dict[str, Answers], after: dict[str, Answers]) -> tuple[bool | None, tuple[str, ...]]:
    """Whether every model of every rune answers as before (None where none was asked), and which are missing."""
    asked = [rune for rune, answers in before.items() if any(answer is not None for answer in answers.values())]
    if not asked or not after:
        return None, ()
    equal = not any(differing(before[rune], after.get(rune, {})) for rune in asked)
    return equal, tuple(sorted({model for rune in asked for model in missing(before[rune], after.get(rune, {}))}))
