"""Read the sealed holdout: conversations with reference answers, in shards below the job's directory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError

from services.verifier.job import HOLDOUT
from services.verifier.results import HeldOut, HeldOutAnswer
from shared.contracts.checks import Checks, UndecidedError, passes
from shared.contracts.frozen import Frozen
from shared.contracts.karma import ChatMessage
from shared.contracts.verify import Arm
from shared.jobs.chat_template import (
    Message,
    Templated,
    takes_parts,
    template_messages,
    template_tools,
    under_prompt,
    unrendered,
)
from shared.jobs.result_writer import InputError
from shared.storage.shards import ShardError, lines

SHOWN = 400  # characters of an answer that are kept


class HoldoutItem(Frozen):
    """One line of the sealed holdout: a conversation that ends with the reference answer or call. Ignores other fields."""

    model_config = ConfigDict(extra="ignore")

    id: str
    session: str
    messages: tuple[ChatMessage, ...]
    checks: Checks = ()
    tools: tuple[dict[str, Any], ...] = ()

    @property
    def has_prompt(self) -> bool:
        """Whether the conversation opens with a system prompt."""
        return self.messages[0].role == "system" and bool(self.messages[0].content)

    @property
    def has_rules(self) -> bool:
        """Whether checks judge its answers, or the calls of the reference."""
        return bool(self.checks or self.messages[-1].tool_calls)

    def prompted(self) -> list[Message]:
        """The conversation as it was, under its system prompt."""
        return [message.model_dump(mode="json") for message in self.messages]

    def spoken(self) -> list[Message]:
        """The conversation without its system prompt, which the adapter must have learned."""
        return under_prompt(self.prompted(), None)


def read_holdout(folder: Path) -> list[HoldoutItem]:
    """Read all items. Raises InputError when the holdout is missing, empty, malformed or has an id twice."""
    try:
        items = [_item(place, line) for place, line in lines(folder / HOLDOUT)]
    except ShardError as error:
        raise InputError(f"holdout: {error}") from error
    if not items:
        raise InputError(f"holdout: {folder / HOLDOUT} has no items: the target cannot be judged")
    if len({item.id for item in items}) != len(items):
        raise InputError(f"holdout: {folder} has an id twice")
    return items


def shown(tokenizer: Templated, items: Sequence[HoldoutItem]) -> tuple[list[HoldoutItem], dict[str, str]]:
    """Select the items that the base's template can render; also returns why it cannot render the others, by id.

    Raises InputError when none is left.
    """
    left_out = {
        item.id: reason for item in items if (reason := unrendered(tokenizer, item.spoken(), item.tools)) is not None
    }
    kept = [item for item in items if item.id not in left_out]
    if not kept:
        raise InputError(
            f"holdout: no item can be rendered for this base: {next(iter(left_out.values()), 'it is empty')}"
        )
    return kept, left_out


def with_prompts(tokenizer: Templated, items: Sequence[HoldoutItem]) -> list[HoldoutItem] | None:
    """The items that have a system prompt; None where the base's template refuses or drops that of any."""
    found = [item for item in items if item.has_prompt]
    return found if all(_shows(tokenizer, item) for item in found) else None


def _shows(tokenizer: Templated, item: HoldoutItem) -> bool:
    if unrendered(tokenizer, item.prompted(), item.tools) is not None:
        return False
    return rendered_full_prompt(tokenizer, item) != rendered_prompt(tokenizer, item)


def rendered(
    tokenizer: Templated, messages: Sequence[Message], tools: Sequence[dict[str, Any]], *, answering: bool
) -> str:
    """Render a conversation by the serving chat template; `answering` opens the assistant's next turn."""
    return str(
        tokenizer.apply_chat_template(
            template_messages(messages, parts=takes_parts(tokenizer)),
            tools=template_tools(tools),
            tokenize=False,
            add_generation_prompt=answering,
        )
    )


def rendered_prompt(tokenizer: Templated, item: HoldoutItem) -> str:
    """Render the prompt: everything before the reference answer, with the tools it may call."""
    return rendered(tokenizer, item.spoken()[:-1], item.tools, answering=True)


def rendered_full_prompt(tokenizer: Templated, item: HoldoutItem) -> str:
    """Render the prompt under the item's system prompt."""
    return rendered(tokenizer, item.prompted()[:-1], item.tools, answering=True)


def rendered_question(tokenizer: Templated, question: str) -> str:
    """Render a single question of the user."""
    return rendered(tokenizer, [{"role": "user", "content": question}], (), answering=True)


def rendered_answer(tokenizer: Templated, item: HoldoutItem) -> str:
    """Render the reference answer with its end mark, as it follows the prompt. Raises InputError where it does not."""
    prompt = rendered_prompt(tokenizer, item)
    whole = rendered(tokenizer, item.spoken(), item.tools, answering=False).rstrip()
    if not whole.startswith(prompt):
        raise InputError(f"holdout: the chat template renders item {item.id} without its own prompt before the answer")
    return whole[len(prompt) :]


def score(
    item: HoldoutItem, nll: Mapping[Arm, float], answers: Mapping[Arm, str], reference: str | None = None
) -> HeldOut:
    """Score the answers of the arms by the item's checks, else by `reference`: its rendered turn, where that calls tools."""
    arms = {arm: _score(item, nll[arm], answer, reference) for arm, answer in answers.items()}
    return HeldOut(id=item.id, session=item.session, arms=arms)


def _score(item: HoldoutItem, nll: float, answer: str, reference: str | None) -> HeldOutAnswer:
    """An answer that patterns do not decide in time has failed."""
    undecided = False
    try:
        passed = judged(item, answer, reference)
    except UndecidedError:
        passed, undecided = False, True
    return HeldOutAnswer(nll=nll, passed=passed, answer=answer[:SHOWN], undecided=undecided)


def judged(item: HoldoutItem, answer: str, reference: str | None) -> bool | None:
    """Whether an answer passes; None where nothing judges it. Raises UndecidedError."""
    if item.checks:
        return passes(item.checks, answer)
    return None if reference is None else makes_calls(item, answer, reference)


def makes_calls(item: HoldoutItem, answer: str, reference: str) -> bool:
    """Whether an answer makes the item's calls: the same names and arguments, in any order.

    Where the template does not write calls as JSON objects, the whole text must be that of `reference`.
    """
    [turn] = template_messages([item.spoken()[-1]])
    functions = [call["function"] for call in turn["tool_calls"]]
    wanted = sorted(_plain(function["name"], function["arguments"]) for function in functions)
    if _read_calls(reference) == wanted:
        return _read_calls(answer) == wanted
    return answer.split() == reference.split()


def _read_calls(text: str) -> list[str]:
    """The calls that a text holds as JSON objects, with the arguments under either of their usual names."""
    calls, at = [], text.find("{")
    while at >= 0:
        try:
            value, end = json.JSONDecoder().raw_decode(text, at)
        except (ValueError, RecursionError):
            value, end = {}, at + 1
        if "name" in value and (given := [name for name in ("arguments", "parameters") if name in value]):
            calls.append(_plain(value["name"], value[given[0]]))
        at = text.find("{", end)
    return sorted(calls)


def _plain(name: object, arguments: object) -> str:
    return json.dumps([name, arguments], sort_keys=True)


def _item(place: str, line: str) -> HoldoutItem:
    try:
        item = HoldoutItem.model_validate_json(line)
    except ValidationError as error:
        fault = error.errors(include_input=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise InputError(f"holdout: {place} is not an item: {where}: {fault['msg']}") from error
    last = item.messages[-1] if item.messages else None
    if last is None or last.role != "assistant" or not (last.content or last.tool_calls):
        raise InputError(f"holdout: {place}: item {item.id} does not end with the assistant's answer or call of a tool")
    return item
