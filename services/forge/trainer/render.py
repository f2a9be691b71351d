"""Renders a row to tokens exactly as the serving engine would see it, and marks the tokens that are trained."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from services.forge.trainer.failure import BadInput
from services.forge.trainer.rows import Message, Row

IGNORED = -100


class ChatTokenizer(Protocol):
    """The part of a transformers tokenizer that rendering needs."""

    def apply_chat_template(self, conversation: list[Message], **options: Any) -> Any: ...

    def decode(self, token_ids: list[int]) -> str: ...


@dataclass(frozen=True)
class Example:
    """One rendered row. `labels` are the tokens where they are trained and IGNORED elsewhere; equal lengths."""

    id: str
    input_ids: list[int]
    labels: list[int]
    kept_prompt: bool

    @property
    def trained(self) -> int:
        return sum(label != IGNORED for label in self.labels)


def render(tokenizer: ChatTokenizer, row: Row, keep_prompt: bool, end_of_turn: Collection[int]) -> Example:
    """Tokens of a row; the loss covers the last answer and the token that ends its turn, nothing after it.

    Raises BadInput where the template does not render the answered conversation as the served prompt plus the answer:
    then training would teach a text that serving never shows.
    """
    messages = [dict(message) for message in row.messages]
    if not keep_prompt and messages[0]["role"] == "system":
        messages = messages[1:]
    served = _tokens(tokenizer, messages[:-1], add_generation_prompt=True)
    whole = _tokens(tokenizer, messages, add_generation_prompt=False)
    prove_prefix(row.id, served, whole)
    end = _end(row.id, whole, len(served), end_of_turn)
    return Example(row.id, whole[:end], [IGNORED] * len(served) + whole[len(served) : end], keep_prompt)


def prove_prefix(row_id: str, served: Sequence[int], whole: Sequence[int]) -> None:
    """Token by token: the prompt as it is served opens the conversation as it is trained. Raises BadInput."""
    for place, token in enumerate(served):
        if place >= len(whole) or whole[place] != token:
            raise BadInput(
                f"row {row_id}: the chat template renders the served prompt and the training text apart at token {place} "
                f"({token} against {whole[place] if place < len(whole) else 'the end'}); this base needs another template"
            )


def keeps_prompt(row_id: str, share: float, seed: int) -> bool:
    """Whether a row keeps its system prompt: the same for the same id and seed, true for about `share` of all ids."""
    digest = hashlib.blake2b(row_id.encode(), digest_size=8, key=f"system prompt {seed}".encode()).digest()
    return int.from_bytes(digest, "big") / 2**64 < share


def _tokens(tokenizer: ChatTokenizer, messages: list[Message], *, add_generation_prompt: bool) -> list[int]:
    encoded = tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, add_generation_prompt=add_generation_prompt
    )
    return list(encoded["input_ids"])


def _end(row_id: str, whole: Sequence[int], start: int, end_of_turn: Collection[int]) -> int:
    """One past the last end-of-turn token of the answer."""
    for place in range(len(whole) - 1, start - 1, -1):
        if whole[place] in end_of_turn:
            return place + 1
    raise BadInput(f"row {row_id}: the chat template ends the answer without an end-of-turn token: it would never stop")
