"""What the losses other than SFT train on: pairs of answers, rated answers, rows with the reason of their choice."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ConfigDict, Field

from services.forge.trainer.render import ChatTokenizer, Example, UnfitRow, render, render_answer
from services.forge.trainer.rows import DEV, TRAIN, PromptForm, Row, iterate_rows
from shared.config.recipe import LossName
from shared.contracts.frozen import Frozen
from shared.jobs.chat_template import Message, takes_parts, template_messages, template_tools
from shared.jobs.result_writer import InputError

PAIRS, DEV_PAIRS, LABELS = "pairs", "dev_pairs", "labels"  # folders of a manifest
# What the teacher sees of a row, in place of its last question. After arXiv 2601.19897, with the reason besides.
TAUGHT = "{question}\n\nThis answer was accepted:\n{answer}\n\nWhy: {why}\n\nNow give an answer of your own."


class Asked(Frozen):
    """What a pair and a label have in common: a conversation, and the form of its system prompt. Ignores other fields."""

    model_config = ConfigDict(extra="ignore")

    id: str
    prompt: tuple[Message, ...] = Field(min_length=1)
    form: PromptForm
    short_prompt: str | None = None
    tools: tuple[dict[str, object], ...] = ()

    def answered(self, answer: Message) -> Row:
        """The conversation with this answer or call."""
        messages = (*self.prompt, answer)
        return Row(id=self.id, messages=messages, tools=self.tools, prompt=self.form, short_prompt=self.short_prompt)


class PairRow(Asked):
    """A line of the manifest's pairs: two answers to one conversation."""

    chosen: tuple[Message]
    rejected: tuple[Message]

    @property
    def shown(self) -> tuple[Row, ...]:
        return self.rated(desirable=True).row, self.rated(desirable=False).row

    def rated(self, *, desirable: bool) -> RatedRow:
        """One of the two answers, alone."""
        return RatedRow(self.answered(*(self.chosen if desirable else self.rejected)), desirable)


class LabelRow(Asked):
    """A line of the manifest's labels: an answer with a thumb up or down."""

    completion: tuple[Message]
    label: bool


class ReasonedRow(Row):
    """A row to train on, with why it was chosen."""

    why: str = ""


@dataclass(frozen=True)
class RatedRow:
    """A row whose answer is desirable or not."""

    row: Row
    desirable: bool

    @property
    def id(self) -> str:
        return self.row.id

    @property
    def shown(self) -> tuple[Row, ...]:
        return (self.row,)


@dataclass(frozen=True)
class Pair(Example):
    """The chosen answer of a pair, with the rejected one; of each the last turn is trained."""

    rejected: Example

    @property
    def sides(self) -> tuple[Example, ...]:
        return self, self.rejected

    @property
    def numbers(self) -> tuple[Sequence[int], ...]:
        return *super().numbers, *self.rejected.numbers


@dataclass(frozen=True)
class Rated(Example):
    """An answer that is to become likelier, or less likely."""

    desirable: bool

    @property
    def numbers(self) -> tuple[Sequence[int], ...]:
        return *super().numbers, (self.desirable,)


@dataclass(frozen=True)
class Taught(Example):
    """A conversation whose answer the model makes itself; `teacher` is the prompt with the accepted answer and its reason.

    The accepted answer is audited, and what is before it is the model's prompt."""

    teacher: Sequence[int]

    @property
    def longest(self) -> int:
        return max(super().longest, len(self.teacher))

    @property
    def numbers(self) -> tuple[Sequence[int], ...]:
        return *super().numbers, self.teacher


Source = Row | PairRow | RatedRow


def list_sources(loss: LossName, manifest: Path) -> tuple[list[Source], list[Source]]:
    """The rows that a loss other than SFT trains on, and those of its dev loss. Raises InputError where there are none."""
    train: list[Source]
    dev: list[Source]
    match loss:
        case "dpo":
            train, dev = list(list_pairs(manifest, PAIRS)), list(list_pairs(manifest, DEV_PAIRS))
        case "kto":
            train = [*_unpaired(manifest, PAIRS), *_labelled(manifest)]
            dev = _unpaired(manifest, DEV_PAIRS)
        case _:
            train, dev = _reasoned(manifest, TRAIN), _reasoned(manifest, DEV)
    kinds = {source.desirable for source in train if isinstance(source, RatedRow)}
    if not train or len(kinds) == 1:
        raise InputError(f'the manifest has nothing that loss "{loss}" could train: {NEEDS[loss]}')
    return train, dev


NEEDS: dict[LossName, str] = {
    "sft": "it needs rows",
    "dpo": "it needs corrections of answers",
    "kto": "it needs answers that were liked and answers that were disliked, or corrections of answers",
    "sdft": "it needs rows that state why they were chosen",
}


def list_pairs(manifest: Path, folder: str) -> list[PairRow]:
    return list(iterate_rows(manifest / folder, PairRow))


def render_source(tokenizer: ChatTokenizer, source: Source, end_of_turn: Collection[int]) -> Sequence[Example]:
    """Render what a loss trains of a row. Raises UnfitRow."""
    match source:
        case PairRow():
            return [render_pair(tokenizer, source, end_of_turn)]
        case RatedRow():
            answer = render_answer(tokenizer, source.row, end_of_turn)
            return [Rated(**vars(answer), desirable=source.desirable)]
        case ReasonedRow():
            answer = render_answer(tokenizer, source, end_of_turn)
            return [Taught(**vars(answer), teacher=_teacher(tokenizer, source))]
    return render(tokenizer, source, end_of_turn)


def render_pair(tokenizer: ChatTokenizer, pair: PairRow, end_of_turn: Collection[int]) -> Pair:
    chosen, rejected = (render_answer(tokenizer, side, end_of_turn) for side in pair.shown)
    return Pair(**vars(chosen), rejected=rejected)


def _unpaired(manifest: Path, folder: str) -> list[Source]:
    """Both answers of every pair."""
    return [pair.rated(desirable=desirable) for pair in list_pairs(manifest, folder) for desirable in (True, False)]


def _labelled(manifest: Path) -> Iterable[RatedRow]:
    """The answers with a thumb; one that is also the chosen one of a pair is there already."""
    paired = {pair.id for pair in list_pairs(manifest, PAIRS)}
    for row in iterate_rows(manifest / LABELS, LabelRow):
        if not (row.label and row.id in paired):
            yield RatedRow(row.answered(*row.completion), row.label)


def _reasoned(manifest: Path, split: str) -> list[Source]:
    return [row for row in iterate_rows(manifest / split, ReasonedRow) if row.why.strip()]


def _teacher(tokenizer: ChatTokenizer, row: ReasonedRow) -> list[int]:
    """The prompt of the teacher, always with the whole system prompt: a student without it learns what it asks for."""
    *asked, answer = row.messages
    at = max((at for at, message in enumerate(asked) if message["role"] == "user"), default=None)
    if at is None:
        raise UnfitRow("no user asks anything in it: a teacher could not be shown the reason")
    accepted = str(answer.get("content") or "").strip() or json.dumps(answer["tool_calls"])
    asked[at] = asked[at] | {
        "content": TAUGHT.format(question=asked[at].get("content") or "", answer=accepted, why=row.why.strip())
    }
    rendered = tokenizer.apply_chat_template(
        template_messages(asked, parts=takes_parts(tokenizer)),
        tools=template_tools(row.tools),
        tokenize=True,
        return_dict=True,
        add_generation_prompt=True,
    )
    return list(rendered["input_ids"])
