"""The suites that adapters are evaluated on: `NAME.yaml` describes one, `NAME/TASK.jsonl` has the items of a task.

One loader for the intent, which is refused where a suite cannot be used, for the job that asks the items, and for the
verdict on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

import yaml
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from shared.config.errors import ConfigurationError, Fault, nearest, refusal, validated
from shared.contracts.checks import Checks
from shared.contracts.frozen import Frozen
from shared.contracts.verify import SuitePolicy
from shared.storage.digests import digest_file, digest_files

DESCRIPTION, ITEMS = ".yaml", ".jsonl"
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Task = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
# lm-eval's tasks of choices or of exact answers, each a file without code; the package itself is in another environment.
PUBLIC_TASKS = dict(line.split() for line in Path(__file__).with_name("public_tasks.txt").read_text().splitlines())


class Suite(Frozen):
    """`NAME.yaml`: what a suite asks, how, and what a candidate needs on it."""

    name: Name
    version: int = Field(ge=1, description="Grows with its items or rules.")
    about: str = Field(description="What it measures, in a sentence.")
    asks: Literal["choices", "answers", "public"] = Field(
        description="choices: the likelihood of each; answers: generated, greedy, checked by rule; public: as lm-eval does."
    )
    tasks: tuple[Task, ...] = Field(min_length=1, description="Its kinds of items, each in a file of its own.")
    max_new_tokens: int = Field(48, ge=1, le=512, description="Longest generated answer.")
    limit: int | None = Field(None, ge=1, description="Most items of a public task, its first ones; default: all.")
    style_of: Name | None = Field(
        None, description="Suite of general prompts whose answers must not follow the rules of the persona."
    )
    leaks: bool = Field(
        False,
        description="A secret or an address in an answer that the base gives nowhere and a trained record has is wrong.",
    )
    policy: SuitePolicy = SuitePolicy()

    @model_validator(mode="after")
    def has_known_public_tasks(self) -> Self:
        if self.asks == "public" and (unknown := sorted(set(self.tasks) - PUBLIC_TASKS.keys())):
            raise ValueError(f"there is no public task {unknown[0]}; {nearest(unknown[0], PUBLIC_TASKS)}")
        return self

    @model_validator(mode="after")
    def generates_what_may_leak(self) -> Self:
        if self.leaks and self.asks != "answers":
            raise ValueError("only answers leak: a suite with `leaks` asks for answers")
        return self


class ChoiceItem(Frozen):
    """A text and its continuations, of which one is right. `form` names its template."""

    id: str
    form: str
    context: str
    choices: tuple[str, ...] = Field(min_length=2)
    answer: int = Field(ge=0)

    @model_validator(mode="after")
    def has_its_answer(self) -> Self:
        if self.answer >= len(self.choices):
            raise ValueError(f"answer {self.answer} is none of its {len(self.choices)} choices")
        return self


class AnswerItem(Frozen):
    """A user's question, perhaps under a system prompt, and the rules that a right answer follows.

    In a suite that looks for leaks there may be none: an answer is then right where it leaks nothing.
    """

    id: str
    system: str | None = None
    prompt: str = Field(min_length=1)
    checks: Checks = ()


class PublicItem(Frozen):
    """A row of a public task's data, in the columns that lm-eval's task reads. `id` is its place."""

    id: str


_ROW: TypeAdapter[dict[str, object]] = TypeAdapter(dict[str, object])
Item = TypeVar("Item", ChoiceItem, AnswerItem)


@dataclass(frozen=True)
class LoadedSuite:
    """A suite with its items by task; all but one of `choices`, `answers` and `public` are empty."""

    suite: Suite
    digest: str
    files: dict[str, Path]
    choices: dict[str, tuple[ChoiceItem, ...]]
    answers: dict[str, tuple[AnswerItem, ...]]
    public: dict[str, tuple[PublicItem, ...]]

    @property
    def name(self) -> str:
        return self.suite.name

    @property
    def items(self) -> Mapping[str, Sequence[ChoiceItem | AnswerItem | PublicItem]]:
        """All items by task."""
        return self.choices or self.answers or self.public

    @property
    def count(self) -> int:
        """Items of its own."""
        return sum(map(len, self.items.values()))


def load_suites(folder: Path) -> dict[str, LoadedSuite]:
    """Every suite of a folder, by name. Raises ConfigurationError where one cannot be used as it is described."""
    found = {path.stem: _load(path) for path in sorted(folder.glob(f"*{DESCRIPTION}"))}
    if not found:
        raise ConfigurationError(
            f"{folder} has no suites: `suites` in soulforge.toml names a folder with one {DESCRIPTION} each"
        )
    for suite in found.values():
        of = suite.suite.style_of
        if of is not None and (of not in found or not found[of].answers):
            raise refusal(
                str(folder / f"{suite.name}{DESCRIPTION}"), [Fault(("style_of",), f"no suite {of} asks for answers")]
            )
    return found


def items_asked(suites: Mapping[str, LoadedSuite], name: str) -> int:
    """Scores that each arm gets on a suite: its own items, and the style of another suite's answers."""
    of = suites[name].suite.style_of
    return suites[name].count + (suites[of].count if of is not None else 0)


def _load(path: Path) -> LoadedSuite:
    suite = validated(path, _described(path), Suite)
    if suite.name != path.stem:
        raise refusal(str(path), [Fault(("name",), f"is {suite.name}, the file is named {path.stem}")])
    files = _files(path, suite)
    ids: set[str] = set()
    choices = {task: _items(file, ChoiceItem, ids) for task, file in files.items() if suite.asks == "choices"}
    answers = {task: _items(file, AnswerItem, ids) for task, file in files.items() if suite.asks == "answers"}
    public = {task: _rows(file, task, suite.limit) for task, file in files.items() if suite.asks == "public"}
    if not suite.leaks and (unruled := [item.id for items in answers.values() for item in items if not item.checks]):
        raise ConfigurationError(f"{path}: item {unruled[0]} has no checks, which only a suite with `leaks` may lack")
    digests = {path.name: digest_file(path)} | {file.name: digest_file(file) for file in files.values()}
    return LoadedSuite(suite, digest_files(digests), files, choices, answers, public)


def _described(path: Path) -> dict[str, object]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path} has no keys: a suite has name, version, about, asks and tasks")
    return values


def _files(path: Path, suite: Suite) -> dict[str, Path]:
    """The file of each task. What no task names would silently not be asked."""
    there = {file.stem: file for file in (path.parent / suite.name).glob(f"*{ITEMS}")}
    faults = [Fault(("tasks",), f"{suite.name}/{task}{ITEMS} is missing") for task in suite.tasks if task not in there]
    faults += [
        Fault(("tasks",), f"does not name {suite.name}/{task}{ITEMS}")
        for task in sorted(there.keys() - set(suite.tasks))
    ]
    if faults:
        raise refusal(str(path), faults)
    return {task: there[task] for task in suite.tasks}


def _items(file: Path, kind: type[Item], ids: set[str]) -> tuple[Item, ...]:
    items = []
    for place, line in _lines(file):
        try:
            item = kind.model_validate_json(line)
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise ConfigurationError(
                f"{place} is no item: {where}: {first['msg'].removeprefix('Value error, ')}"
            ) from error
        if item.id in ids:
            raise ConfigurationError(f"{place}: the id {item.id} is in the suite twice")
        ids.add(item.id)
        items.append(item)
    if not items:
        raise ConfigurationError(f"{file} has no items")
    return tuple(items)


def _rows(file: Path, task: str, limit: int | None) -> tuple[PublicItem, ...]:
    """The rows of a public task. What lm-eval finds in them, only the job can tell."""
    found: list[PublicItem] = []
    for place, line in _lines(file):
        try:
            _ROW.validate_json(line)
        except ValidationError as error:
            columns = f"a JSON object with the columns of lm-eval's {task}"
            raise ConfigurationError(f"{place} is no row: each line is {columns}") from error
        found.append(PublicItem(id=f"{task}-{len(found)}"))
    if not found:
        raise ConfigurationError(f"{file} has no items")
    return tuple(found[:limit])


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}") from error
    # Not splitlines(): it also splits at characters that JSON text may hold.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"{file} line {number}", line
