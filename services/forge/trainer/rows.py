"""Read the rows of a manifest, after checking its digest against the job's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.contracts.frozen import Frozen
from shared.jobs.chat_template import Message, under_prompt
from shared.jobs.result_writer import InputError
from shared.storage.digests import digest_tree
from shared.storage.shards import ShardError, lines

TRAIN, DEV = "train", "dev"
PromptForm = Literal["full", "short", "none"]
R = TypeVar("R", bound=BaseModel)


class Row(Frozen):
    """A conversation that ends in an answer or a call, and the form of the system prompt for its training. Ignores other fields."""

    model_config = ConfigDict(extra="ignore")

    id: str
    messages: tuple[Message, ...] = Field(min_length=2)
    tools: tuple[dict[str, object], ...] = ()
    prompt: PromptForm
    short_prompt: str | None = None

    @model_validator(mode="after")
    def has_what_it_is_trained_under(self) -> Row:
        if self.prompt == "short" and self.short_prompt is None:
            raise ValueError("it is to be trained under a short prompt and has none")
        last = self.messages[-1]
        if last.get("role") != "assistant" or not (str(last.get("content") or "").strip() or last.get("tool_calls")):
            raise ValueError("it does not end in an assistant's answer or call of a tool")
        return self

    @property
    def shown(self) -> tuple[Row, ...]:
        """The conversations that the base's template has to show."""
        return (self,)

    def conversation(self) -> list[Message]:
        """The messages with the system prompt used in training."""
        if self.prompt == "full":
            return list(self.messages)
        return under_prompt(self.messages, self.short_prompt if self.prompt == "short" else None)


@dataclass(frozen=True)
class Split:
    """The rows of one split, read from its shards at each pass, so that memory does not grow with them."""

    folder: Path
    rows: int

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[Row]:
        return iterate_rows(self.folder, Row)


def read_rows(manifest_dir: Path, manifest_digest: str) -> tuple[Split, Split]:
    """Read the train and dev splits and validate every row; a manifest may have no dev split.

    Raises InputError for a digest that differs, a missing shard or a line that is not a row.
    """
    if not manifest_dir.is_dir():
        raise InputError(f"no manifest directory at {manifest_dir}")
    found = digest_tree(manifest_dir)
    if found != manifest_digest:
        raise InputError(f"the manifest at {manifest_dir} is {found}, the job names {manifest_digest}: harvest again")
    train, dev = _split(manifest_dir / TRAIN), _split(manifest_dir / DEV)
    if not train:
        raise InputError(f"{train.folder} has no rows: there is nothing to train on")
    return train, dev


def _split(folder: Path) -> Split:
    return Split(folder, sum(1 for _ in iterate_rows(folder, Row)))


def iterate_rows(folder: Path, form: type[R]) -> Iterator[R]:
    """Read the rows of a folder of shards. Raises InputError for a line that is none, or shards that cannot be read."""
    try:
        yield from _parsed(folder, form)
    except ShardError as error:
        raise InputError(f"the manifest cannot be read: {error}") from error


def _parsed(folder: Path, form: type[R]) -> Iterator[R]:
    for place, line in lines(folder):
        try:
            yield form.model_validate_json(line)
        except ValidationError as error:
            fault = error.errors(include_input=False)[0]
            where = ".".join(map(str, fault["loc"]))
            raise InputError(f"{place} is not a row: {where + ': ' if where else ''}{fault['msg']}") from error
