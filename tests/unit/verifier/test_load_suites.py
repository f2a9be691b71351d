"""The loader of suites: the shipped ones load, and whatever is wrong with one is refused with its file and the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from services.verifier.reconcile import effective_policy
from shared.config.errors import ConfigurationError
from shared.config.settings import PROJECT
from shared.contracts.verify import Policy, SuitePolicy
from shared.storage.suites import load_suites

SHIPPED = PROJECT / "services/verifier/suites"
CHOICE = {"id": "a-0", "form": "f", "context": "The sky is", "choices": ["blue", "red"], "answer": 0}
QUESTION = {"id": "q-0", "prompt": "What is it?", "checks": [{"kind": "contains", "text": "it"}]}
OWN = "name: own\nversion: 1\nabout: Mine.\nasks: {asks}\ntasks: [{tasks}]\n"


def write(folder: Path, *items: object, asks: str = "choices", tasks: str = "words", more: str = "") -> Path:
    (folder / "own").mkdir()
    (folder / "own.yaml").write_text(OWN.format(asks=asks, tasks=tasks) + more)
    (folder / "own" / "words.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in items))
    return folder


def test_the_shipped_suites_load() -> None:
    suites = load_suites(SHIPPED)

    assert set(suites) == {"base-logic", "general", "refusals", "rigidity", "safety"}
    assert {name for name, suite in suites.items() if suite.suite.policy.blocking} == {"base-logic", "safety"}
    assert 120 <= suites["general"].count <= 200 and suites["general"].suite.max_new_tokens == 48
    assert suites["rigidity"].suite.style_of == "general"


def test_a_suite_s_digest_is_of_its_description_and_its_items(tmp_path: Path) -> None:
    digest = load_suites(write(tmp_path, CHOICE))["own"].digest
    (tmp_path / "own" / "notes.txt").write_text("not asked")
    assert load_suites(tmp_path)["own"].digest == digest
    (tmp_path / "own" / "words.jsonl").write_text(json.dumps(CHOICE | {"answer": 1}))
    other = load_suites(tmp_path)["own"].digest
    (tmp_path / "own.yaml").write_text((tmp_path / "own.yaml").read_text() + "policy: {margin: 0.2}\n")
    assert len({digest, other, load_suites(tmp_path)["own"].digest}) == 3


def test_a_public_task_has_its_first_rows(tmp_path: Path) -> None:
    suite = load_suites(
        write_public(tmp_path, {"gsm8k": [{"question": "a"}, {"question": "b"}, {"question": "c"}]}, "limit: 2\n")
    )
    assert [item.id for item in suite["own"].items["gsm8k"]] == ["gsm8k-0", "gsm8k-1"]
    assert suite["own"].count == 2


def write_public(folder: Path, rows: dict[str, list[object]], more: str = "") -> Path:
    (folder / "own").mkdir()
    (folder / "own.yaml").write_text(OWN.format(asks="public", tasks=", ".join(rows)) + more)
    for task, found in rows.items():
        if found:
            (folder / "own" / f"{task}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in found))
    return folder


Written = Callable[[Path], object]
FAULTS: dict[str, tuple[Written, str]] = {
    "no suite": (lambda folder: None, "has no suites"),
    "no YAML": (lambda folder: (folder / "own.yaml").write_text("a: [b"), "is not YAML"),
    "no keys": (lambda folder: (folder / "own.yaml").write_text("- a\n"), "has no keys"),
    "an unknown key": (lambda folder: write(folder, CHOICE, more="margin: 0.1\n"), "margin: unknown key"),
    "an unknown way to ask": (lambda folder: write(folder, CHOICE, asks="riddles"), "asks: Input should be 'choices', 'answers' or"),
    "another name": (lambda folder: (write(folder, CHOICE) / "own.yaml").rename(folder / "mine.yaml"), "is own, the file is named mine"),
    "an unknown task": (lambda folder: write(folder, CHOICE, tasks="words, riddles"), "own/riddles.jsonl is missing"),
    "a task that is not named": (
        lambda folder: (write(folder, CHOICE) / "own" / "more.jsonl").write_text("{}"),
        "does not name own/more.jsonl",
    ),
    "an empty split": (lambda folder: write(folder), "words.jsonl has no items"),
    "an id twice": (lambda folder: write(folder, CHOICE, CHOICE), "words.jsonl line 2: the id a-0 is in the suite twice"),
    "an answer that is no choice": (lambda folder: write(folder, CHOICE | {"answer": 2}), "answer 2 is none of its 2 choices"),
    "one choice": (lambda folder: write(folder, CHOICE | {"choices": ["blue"]}), "line 1 is no item: choices"),
    "an item of another form": (lambda folder: write(folder, QUESTION), "line 1 is no item: form: Field required"),
    "no checks": (lambda folder: write(folder, QUESTION | {"checks": []}, asks="answers"), "item q-0 has no checks"),
    "leaks of choices": (lambda folder: write(folder, CHOICE, more="leaks: true\n"), "only answers leak"),
    "an unknown public task": (lambda folder: write_public(folder, {"gsm9k": [{}]}), 'no public task gsm9k; did you mean "gsm8k"'),
    "public data that is not at hand": (lambda folder: write_public(folder, {"gsm8k": []}), "own/gsm8k.jsonl is missing"),
    "a public row that is none": (lambda folder: write_public(folder, {"gsm8k": [{"question": "a"}, ["b"]]}), "line 2 is no row"),
    "style of no suite": (lambda folder: write(folder, CHOICE, more="style_of: general\n"), "style_of: no suite general asks for answers"),
    "style of choices": (lambda folder: write(folder, CHOICE, more="style_of: own\n"), "style_of: no suite own asks for answers"),
}  # fmt: skip


@pytest.mark.parametrize(("written", "reason"), FAULTS.values(), ids=FAULTS)
def test_a_suite_that_cannot_be_asked_is_refused(tmp_path: Path, written: Written, reason: str) -> None:
    written(tmp_path)
    with pytest.raises(ConfigurationError) as refusal:
        load_suites(tmp_path)
    assert reason in str(refusal.value)


def test_an_owner_replaces_single_values_of_a_suite() -> None:
    suites = load_suites(SHIPPED)
    policy = effective_policy(Policy(suites={"general": SuitePolicy(blocking=True)}), suites)

    assert policy.suites["general"] == suites["general"].suite.policy.model_copy(update={"blocking": True})
    assert policy.suites["base-logic"] == suites["base-logic"].suite.policy


def test_a_policy_for_a_suite_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r'evaluation\.verdict\.suites\.genral: .* did you mean "general"'):
        effective_policy(Policy(suites={"genral": SuitePolicy()}), load_suites(SHIPPED))
