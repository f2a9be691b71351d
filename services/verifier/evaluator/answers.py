"""Suites of answers: generated to the end of the turn, one arm at a time, and checked by rule."""

from __future__ import annotations

from collections.abc import Callable

from services.verifier.evaluator.arms import Arms, generated
from services.verifier.evaluator.holdout import rendered
from services.verifier.evaluator.style import follows
from services.verifier.results import ItemScore
from shared.contracts.verify import Arm
from shared.jobs.chat_template import Templated, unrendered
from shared.storage.suites import AnswerItem, LoadedSuite

BATCH = 64
SHOWN = 1000  # characters of an answer that are kept: 48 tokens have some 200


def measure(arms: Arms, arm: Arm, suite: LoadedSuite, advance: Callable[[int], None]) -> list[ItemScore]:
    """Generate one arm's answer to every item, and check it."""
    asked = [(kind, item) for kind, items in suite.answers.items() for item in items]
    prompts = [rendered_item(arms.tokenizer, item) for _, item in asked]
    answers = generated(arms, arm, prompts, suite.suite.max_new_tokens, BATCH, advance)
    return [
        ItemScore(
            suite=suite.name,
            kind=kind,
            item=item.id,
            session=item.id,
            arm=arm,
            correct=not item.checks or follows(item.checks, answer),
            answer=answer[:SHOWN],
        )
        for (kind, item), answer in zip(asked, answers, strict=True)
    ]


def rendered_item(tokenizer: Templated, item: AnswerItem) -> str:
    """Render the item's question. A template without system prompts gets it before the question."""
    question = {"role": "user", "content": item.prompt}
    if item.system is None:
        return rendered(tokenizer, [question], (), answering=True)
    messages = [{"role": "system", "content": item.system}, question]
    if unrendered(tokenizer, messages, ()) is not None:
        messages = [{"role": "user", "content": f"{item.system}\n\n{item.prompt}"}]
    return rendered(tokenizer, messages, (), answering=True)
