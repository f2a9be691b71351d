"""The same question to every model before and after: equal answers show that the same weights answer again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from shared.drivers.inference.port import InferenceError, Turn

if TYPE_CHECKING:
    from shared.drivers.inference.port import Inference

log = structlog.get_logger()
TOKENS = 16

Answers = dict[str, str | None]


def question(fence: int) -> tuple[Turn, ...]:
    """Holds the fence, so that no cache of an earlier hand-over knows its beginning: a cached prefix computes otherwise."""
    return (Turn(role="user", content=f"{fence}. Name three things that a smith needs."),)


async def ask_all(inference: Inference, fence: int) -> Answers:
    """What each model answers, alone on the engine; None for one that cannot be asked, nothing when the engine is away."""
    try:
        models = await inference.models()
    except InferenceError:
        return {}
    return {model: await _ask(inference, model, fence) for model in sorted(models)}


async def _ask(inference: Inference, model: str, fence: int) -> str | None:
    try:
        return await inference.answer(model, question(fence), TOKENS)
    except InferenceError as error:
        log.warning("model not probed", model=model, error=str(error))
        return None


def differing(before: Answers, after: Answers) -> list[str]:
    """The models that answered before and answer otherwise now; a missing one does not answer otherwise."""
    return sorted(
        model for model, answer in before.items() if answer is not None and after.get(model) not in (None, answer)
    )


def missing(before: Answers, after: Answers) -> list[str]:
    """The models that answered before and do not answer now."""
    return sorted(model for model, answer in before.items() if answer is not None and after.get(model) is None)
