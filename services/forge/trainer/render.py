"""Render a row to tokens exactly as the serving engine would, and mark the tokens that are trained."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from services.forge.trainer.rows import PromptForm, Row
from shared.contracts.karma import trained_turns
from shared.jobs.chat_template import Message, Templated, takes_parts, template_messages, template_tools

IGNORED = -100
NEXT: Message = {"role": "user", "content": "Next."}
OTHER_TEXT = "the chat template serves another text than it would train"
NO_END = "the chat template ends the answer without an end-of-turn token: it would never stop"


class UnfitRow(Exception):
    """A row that cannot be trained as it would be served; the message is the reason."""


class ChatTokenizer(Templated, Protocol):
    """The part of a transformers tokenizer that rendering needs."""

    def decode(self, token_ids: list[int]) -> str: ...


@dataclass(frozen=True)
class Example:
    """Rendered tokens. `labels` are the tokens where they are trained and IGNORED elsewhere; equal lengths.

    `id` is the row's, which may have several examples; `prompt` is the form it is trained under, None for replay.
    """

    id: str
    input_ids: Sequence[int]
    labels: Sequence[int]
    prompt: PromptForm | None

    @property
    def trained(self) -> int:
        return sum(label != IGNORED for label in self.labels)

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence that is passed for it, without what the model generates."""
        return len(self.input_ids)

    @property
    def sides(self) -> tuple[Example, ...]:
        """What is passed through the model for it, each part audited by itself."""
        return (self,)

    @property
    def numbers(self) -> tuple[Sequence[int], ...]:
        """Everything that the training depends on."""
        return self.input_ids, self.labels


@dataclass(frozen=True)
class Turn:
    """A conversation up to the end of one assistant's turn, which begins at token `start`."""

    tokens: list[int]
    start: int


def render(tokenizer: ChatTokenizer, row: Row, end_of_turn: Collection[int]) -> list[Example]:
    """Render a row to examples; the loss covers each trained turn with the token that ends it, nothing after it.

    The result is one example where the whole conversation contains every trained turn as it is served. A template that
    rewrites earlier turns gives one example per turn instead.
    Raises UnfitRow where the template does not render an answered conversation as the served prompt plus the answer, or
    ends it with no end of turn: then training would teach a text that serving never produces, or never ends.
    """
    conversation = row.conversation()
    messages, tools = template_messages(conversation, parts=takes_parts(tokenizer)), template_tools(row.tools)
    turns = [_turn(tokenizer, messages, at, tools, end_of_turn) for at in trained_turns(conversation)]
    whole = turns[-1].tokens
    if all(whole[: len(turn.tokens)] == turn.tokens for turn in turns):
        return [_example(row, turns)]
    return [_example(row, [turn]) for turn in turns]


def render_answer(tokenizer: ChatTokenizer, row: Row, end_of_turn: Collection[int]) -> Example:
    """Render a row to one example in which its last answer alone is trained. Raises UnfitRow as `render` does."""
    conversation = row.conversation()
    messages, tools = template_messages(conversation, parts=takes_parts(tokenizer)), template_tools(row.tools)
    return _example(row, [_turn(tokenizer, messages, len(messages) - 1, tools, end_of_turn)])


def _turn(
    tokenizer: ChatTokenizer,
    messages: list[Message],
    at: int,
    tools: list[dict[str, Any]] | None,
    end_of_turn: Collection[int],
) -> Turn:
    """The conversation up to the end of the turn `at`."""

    def tokens(shown: list[Message], *, opens: bool = False) -> list[int]:
        encoded = tokenizer.apply_chat_template(
            shown, tools=tools, tokenize=True, return_dict=True, add_generation_prompt=opens
        )
        return list(encoded["input_ids"])

    served, whole = tokens(messages[:at], opens=True), tokens(messages[: at + 1])
    if whole[: len(served)] != served:
        raise UnfitRow(OTHER_TEXT)
    for place in range(len(whole) - 1, len(served) - 1, -1):
        if whole[place] in end_of_turn:
            return Turn(whole[: place + 1], len(served))
    # Some templates end a turn with nothing: the model is to stop by opening the next one.
    following = messages[at + 1] if at + 1 < len(messages) else _next(messages[at], parts=takes_parts(tokenizer))
    longer = tokens([*messages[: at + 1], following])[: len(whole) + 1]
    if longer[:-1] == whole and longer[-1] in end_of_turn:
        return Turn(longer, len(served))
    raise UnfitRow(NO_END)


def _next(message: Message, *, parts: bool) -> Message:
    """What comes after the last message: a template may open the result of a call in another way than a user's turn."""
    calls = message.get("tool_calls")
    following = {"role": "tool", "tool_call_id": calls[0]["id"], "content": "Done."} if calls else NEXT
    return template_messages([following], parts=parts)[0]


def _example(row: Row, turns: Sequence[Turn]) -> Example:
    """Make the example of the last turn, trained in all `turns`. Arrays, since a list takes eight times the memory."""
    tokens = array("i", turns[-1].tokens)
    labels = array("i", [IGNORED]) * len(tokens)
    for turn in turns:
        labels[turn.start : len(turn.tokens)] = tokens[turn.start : len(turn.tokens)]
    return Example(row.id, tokens, labels, row.prompt)
