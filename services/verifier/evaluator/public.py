"""Public tasks through lm-eval, on data that is at hand: each is its task as installed, with its rows from a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lm_eval.tasks

from services.verifier.evaluator.arms import Arms
from services.verifier.evaluator.choices import sampled
from services.verifier.results import ItemScore
from shared.contracts.verify import Arm
from shared.jobs.result_writer import InputError
from shared.storage.suites import PUBLIC_TASKS, LoadedSuite

INSTALLED = Path(lm_eval.tasks.__file__).parent
METRICS = ("acc", "exact_match")


def measure(arms: Arms, arm: Arm, suite: LoadedSuite, seed: int, advance: Callable[[int], None]) -> list[ItemScore]:
    """Score the items of every task in one arm, each by the first of its task's filters."""
    with _descriptions(suite) as paths:
        samples = sampled(arms, arm, paths, seed, suite.count, advance, suite.suite.limit, suite.suite.max_new_tokens)
    return [_score(suite, task, arm, row) for task in suite.files for row in _first_filter(samples[task])]


def chance_of(suite: LoadedSuite) -> dict[str, float]:
    """What a guesser scores, by task. Raises InputError where lm-eval cannot read a task's rows."""
    with _descriptions(suite) as paths:
        try:
            tasks = lm_eval.tasks.TaskManager(include_defaults=False).load(paths)["tasks"]
            return {task: _chance(tasks[task], suite.suite.limit) for task in suite.files}
        except Exception as error:
            raise InputError(f"suite {suite.name}: lm-eval cannot read its rows: {error!r}") from error


def description(task: str, rows: Path) -> dict[str, Any]:
    """A file of lm-eval, which its command line takes too: the installed task, asked without examples, on other rows."""
    return {
        "include": str(INSTALLED / PUBLIC_TASKS[task]),
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {"test": str(rows)}},
        "training_split": None,
        "validation_split": None,
        "test_split": "test",
        "fewshot_split": "test",
        "num_fewshot": 0,
    }


@contextmanager
def _descriptions(suite: LoadedSuite) -> Iterator[list[str]]:
    with TemporaryDirectory(prefix="public-") as folder:
        paths = {task: Path(folder) / f"{task}.yaml" for task in suite.files}
        for task, path in paths.items():
            path.write_text(json.dumps(description(task, suite.files[task])), encoding="utf-8")  # JSON is YAML
        yield [str(path) for path in paths.values()]


def _chance(task: Any, limit: int | None) -> float:
    docs = list(task.test_docs())[:limit]
    for doc in docs:
        task.doc_to_text(doc), task.doc_to_target(doc)
    if task.OUTPUT_TYPE != "multiple_choice":
        return 0.0
    return sum(1 / len(task.doc_to_choice(doc)) for doc in docs) / len(docs)


def _first_filter(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["filter"] == rows[0]["filter"]]


def _score(suite: LoadedSuite, task: str, arm: Arm, row: dict[str, Any]) -> ItemScore:
    item = suite.public[task][row["doc_id"]].id
    metric = next(name for name in METRICS if name in row)
    return ItemScore(suite=suite.name, kind=task, item=item, session=item, arm=arm, correct=bool(row[metric]))
