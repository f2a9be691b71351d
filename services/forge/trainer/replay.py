"""Replay: the base's own continuations are trained among the rows, so that a persona is learned without forgetting.

Self-generated replay keeps more than real text does, and costs a few seconds (research: arXiv 2605.26097, 2602.20162).
The same base, seed and share give the same examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from services.forge.trainer.engines.port import Engine
from services.forge.trainer.render import IGNORED, Example

OPENINGS = Path(__file__).with_name("replay.txt")
QUESTION = "? "
ANSWER_TOKENS = 32


def replay(engine: Engine, rows: int, share: float) -> list[Example]:
    """Make about `share` × `rows` examples that the base generates itself; every generated token is trained."""
    chosen = openings()[: round(share * rows)]
    prompts = [_prompt(engine, opening) for opening in chosen]
    continuations = engine.generate(prompts, ANSWER_TOKENS) if prompts else []
    return [
        Example(f"replay-{number}", [*prompt, *tokens], [IGNORED] * len(prompt) + tokens, prompt=None)
        for number, (prompt, tokens) in enumerate(zip(prompts, continuations, strict=True))
    ]


def openings() -> list[str]:
    """Openings and questions mixed, so that any share has both."""
    lines = [line for line in OPENINGS.read_text(encoding="utf-8").splitlines() if line and not line.startswith("# ")]
    questions = [line for line in lines if line.startswith(QUESTION)]
    texts = [line for line in lines if not line.startswith(QUESTION)]
    mixed: list[str] = []
    for place, question in enumerate(questions):
        mixed += [*texts[2 * place : 2 * place + 2], question]
    return mixed


def _prompt(engine: Engine, opening: str) -> list[int]:
    if not opening.startswith(QUESTION):
        return engine.encode(opening)
    question = [{"role": "user", "content": opening.removeprefix(QUESTION)}]
    encoded = engine.tokenizer.apply_chat_template(
        question, tokenize=True, return_dict=True, add_generation_prompt=True
    )
    tokens: Sequence[int] = encoded["input_ids"]
    return list(tokens)
