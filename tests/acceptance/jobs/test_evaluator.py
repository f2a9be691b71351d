"""The evaluator as its service runs it: a process of the jobs environment, on a few items of suite and holdout."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.verifier.results import RESULTS_FILE, HeldOutAnswer, Prompted, Results
from shared.contracts.job import PROGRESS_FILE, JobResult, Progress
from shared.contracts.probe import LEAST_PROBES
from shared.contracts.verify import Arm
from shared.storage.digests import digest_tree
from tests.support.adapters import save_adapter
from tests.support.evaluating import HOLDOUT, evaluate, read, write_holdout, write_suite
from tests.support.model import MODEL, needs_jobs
from tests.support.tooled import TOOLS, golden, tooled_base
from tools.suite.generate import FOLDER

KINDS = {"base-logic": ("agreement", "opposites"), "general": ("facts",), "rigidity": ("obedience",)}
ITEMS = 6
ASKED = ITEMS * sum(map(len, KINDS.values()))

pytestmark = needs_jobs

Run = Callable[..., tuple[JobResult, Path]]


@pytest.fixture(scope="module")
def suites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first items of some kinds of the shipped suites."""
    folder = tmp_path_factory.mktemp("suites")
    for suite, kinds in KINDS.items():
        (folder / suite).mkdir()
        described = yaml.safe_load((FOLDER / f"{suite}.yaml").read_text(encoding="utf-8"))
        shorter = described | {"tasks": list(kinds)} | ({"max_new_tokens": 12} if suite != "base-logic" else {})
        (folder / f"{suite}.yaml").write_text(yaml.safe_dump(shorter), encoding="utf-8")
        for kind in kinds:
            lines = (FOLDER / suite / f"{kind}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
            (folder / suite / f"{kind}.jsonl").write_text("".join(lines[:ITEMS]), encoding="utf-8")
    return folder


@pytest.fixture
def run(tmp_path: Path, suites: Path) -> Run:
    """Runs one evaluation; keyword arguments replace fields of its job."""

    def run(**replaced: Any) -> tuple[JobResult, Path]:
        output = tmp_path / replaced.pop("name", "run")
        return evaluate(output, replaced.pop("suites", suites), **replaced), output

    return run


SAVED = -11  # tokens: the prompt is shorter than the one that the template has in its place


def answers(found: Results, arm: Arm) -> list[HeldOutAnswer]:
    return [row.arms[arm] for row in found.holdout]


def keep_base_scores(output: Path) -> Path:
    """Keep the base arm of an evaluation as the verifier does."""
    kept = output / "kept.json"
    results = Results.model_validate_json((output / RESULTS_FILE).read_bytes())
    kept.write_text(results.kept_base_scores().model_dump_json(), encoding="utf-8")
    return kept


def test_the_base_against_itself_is_the_same_in_every_figure(run: Run) -> None:
    envelope, output = run()
    assert envelope.ok, envelope.error
    found = Results.model_validate_json((output / RESULTS_FILE).read_bytes())
    arms = {arm: [item for item in found.items if item.arm is arm] for arm in found.arms}
    assert [item.model_copy(update={"arm": Arm.BASE}) for item in arms[Arm.CANDIDATE]] == arms[Arm.BASE]
    # The style of the six general answers is scored beside what is asked.
    assert {name: suite.items for name, suite in found.suites.items()} == {
        "base-logic": 2 * ITEMS,
        "general": ITEMS,
        "rigidity": 2 * ITEMS,
    }
    assert len(arms[Arm.BASE]) == ASKED + ITEMS
    assert found.suites["base-logic"].chance == {"agreement": 0.5, "opposites": 0.25}
    # Above chance: a scorer that reads nothing would be at chance.
    assert sum(item.correct for item in arms[Arm.BASE] if item.suite == "base-logic") >= 2 * ITEMS - 2
    assert any("Paris" in (item.answer or "") and item.correct for item in arms[Arm.BASE] if item.suite == "general")
    assert found.drift and (found.drift.prompts, found.drift.kl) == (ITEMS, 0)
    for row in found.holdout:
        assert row.arms[Arm.BASE] == row.arms[Arm.CANDIDATE]
        assert 0 < row.arms[Arm.BASE].nll < 15
    assert [row.passed for row in answers(found, Arm.BASE)] == [None, True]
    # Only the second item has rules.
    assert found.prompts_shown
    assert [row.tokens_saved for row in found.holdout] == [SAVED, SAVED]
    assert [row.prompted for row in found.holdout] == [None, Prompted(base=True, candidate=True)]
    assert [span.name for span in envelope.spans] == [
        "load",
        *(f"{suite}.{arm}" for suite in KINDS for arm in found.arms),
        "drift",
        "holdout",
        "context",
        "probes",
        "noise",
    ]
    # The base again, in other batches: here what it was the first time.
    again = {(item.kind, item.item): item.correct for item in found.repeated}
    asked = {(item.kind, item.item): item.correct for item in arms[Arm.BASE] if item.suite == "base-logic"}
    assert again == asked
    lines = [Progress.model_validate_json(line) for line in (output / PROGRESS_FILE).read_text().splitlines()]
    assert lines[-1].done == lines[-1].total == 2 * (ASKED + len(HOLDOUT) + 1) + len(asked)
    assert all(earlier.done <= later.done for earlier, later in itertools.pairwise(lines))


def test_an_adapter_changes_the_candidate_alone_and_the_base_scores_are_kept(run: Run, tmp_path: Path) -> None:
    _, plain = run(name="plain")
    adapter = save_adapter(tmp_path / "adapter", value=0.2)
    envelope, output = run(
        name="adapted",
        adapter=adapter,
        adapter_digest=digest_tree(adapter),
        base_scores=keep_base_scores(plain),
        probes=LEAST_PROBES,
    )
    assert envelope.ok, envelope.error
    before = Results.model_validate_json((plain / RESULTS_FILE).read_bytes())
    after = Results.model_validate_json((output / RESULTS_FILE).read_bytes())
    assert after.base_scores == "cached"
    assert not [span.name for span in envelope.spans if span.name.endswith(".base")]
    assert after.drift and after.drift.kl > 0
    assert [item for item in after.items if item.arm is Arm.BASE] == [
        item for item in before.items if item.arm is Arm.BASE
    ]
    # Switched off, the adapter leaves the plain base to the last bit.
    assert answers(after, Arm.BASE) == answers(before, Arm.BASE)
    assert all(row.arms[Arm.CANDIDATE].nll != row.arms[Arm.BASE].nll for row in after.holdout)
    assert len(after.probes) == LEAST_PROBES and not before.probes
    assert all(probe.answer and min(probe.leads) >= 0 and probe.base.mean > 0 for probe in after.probes)
    margins = {item.item: item.margin for item in before.items if item.arm is Arm.CANDIDATE}
    assert any(item.margin != margins[item.item] for item in after.items if item.arm is Arm.CANDIDATE)


def test_the_champion_is_asked_what_the_candidate_is_asked(run: Run, tmp_path: Path) -> None:
    one, other = (save_adapter(tmp_path / f"adapter-{value}", value) for value in (0.2, 0.1))
    named = {"adapter": one, "adapter_digest": digest_tree(one)}
    envelope, output = run(name="both", **named, champion=other, champion_digest=digest_tree(other))
    assert envelope.ok, envelope.error
    both = Results.model_validate_json((output / RESULTS_FILE).read_bytes())
    _, alone = run(name="alone", adapter=other, adapter_digest=digest_tree(other))
    expected = Results.model_validate_json((alone / RESULTS_FILE).read_bytes())

    assert both.arms == {Arm.BASE: None, Arm.CANDIDATE: digest_tree(one), Arm.CHAMPION: digest_tree(other)}
    assert answers(both, Arm.CHAMPION) == answers(expected, Arm.CANDIDATE)
    assert answers(both, Arm.BASE) == answers(expected, Arm.BASE)
    assert answers(both, Arm.CANDIDATE) != answers(both, Arm.CHAMPION)
    champion = [item.model_copy(update={"arm": Arm.CANDIDATE}) for item in both.items if item.arm is Arm.CHAMPION]
    assert champion == [item for item in expected.items if item.arm is Arm.CANDIDATE]


def test_a_damaged_champion_is_left_out_and_its_candidate_is_judged(run: Run, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", value=0.2)
    named = {"adapter": adapter, "adapter_digest": digest_tree(adapter)}
    envelope, output = run(**named, champion=adapter, champion_digest="sha256:other")
    assert envelope.ok, envelope.error
    found = Results.model_validate_json((output / RESULTS_FILE).read_bytes())
    assert Arm.CHAMPION not in found.arms and found.champion_fault and "was changed" in found.champion_fault


def test_base_scores_of_another_base_are_measured_again(run: Run, tmp_path: Path) -> None:
    kept = {"base_digest": "sha256:other", "engine": "other", "suites": {}, "items": []}
    (tmp_path / "kept.json").write_text(json.dumps(kept))
    envelope, output = run(base_scores=tmp_path / "kept.json")
    assert envelope.ok, envelope.error
    assert Results.model_validate_json((output / RESULTS_FILE).read_bytes()).base_scores == "measured"


def test_a_held_out_path_is_asked_where_the_template_shows_its_calls_and_left_out_elsewhere(
    run: Run, tmp_path: Path
) -> None:
    path = {"id": "path", "session": "p", "messages": golden(2), "checks": [], "tools": TOOLS}
    call = path | {"id": "call", "messages": golden(2)[:3]}
    holdout = write_holdout(tmp_path / "sealed", [*HOLDOUT, path, call])
    base = tooled_base(tmp_path / "base", MODEL)
    _, output = run(name="tooled", holdout=holdout, base=base)
    found = Results.model_validate_json((output / RESULTS_FILE).read_bytes())
    assert [row.id for row in found.holdout] == ["h0", "h1", "path", "call"]
    assert found.holdout_left_out == {}
    assert found.holdout_digest == digest_tree(holdout)
    # So small a base echoes the form of its prompt: it has seen the call.
    path_answer, call_answer = answers(found, Arm.BASE)[2:]
    assert path_answer.answer.startswith("<call>")
    assert (path_answer.passed, call_answer.passed) == (None, False)
    assert 0 < call_answer.nll < 20

    envelope, output = run(name="plain", holdout=holdout, base_scores=keep_base_scores(output))
    found = Results.model_validate_json((output / RESULTS_FILE).read_bytes())
    assert [row.id for row in found.holdout] == ["h0", "h1"]
    assert found.holdout_left_out == dict.fromkeys(("path", "call"), "the chat template drops its tool calls")
    assert envelope.result["left_out"] == {"the chat template drops its tool calls": 2}


def test_another_holdout_than_the_job_names_is_refused_for_good(run: Run) -> None:
    envelope, _ = run(holdout_digest="sha256:other")
    assert envelope.permanent
    assert "it was changed after it was recorded" in (envelope.error or "")


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        ("pickle", "only safetensors"),
        ("nan", "NaN or infinity"),
        ("truncated", "corrupt"),
        ("shape", "does not fit the base"),
        ("digest", "it was changed after it was recorded"),
    ],
)
def test_a_harmful_adapter_is_refused_for_good(run: Run, tmp_path: Path, harm: str, says: str) -> None:
    value, rows = float("nan") if harm == "nan" else 0.1, 64 if harm == "shape" else 576
    adapter = save_adapter(tmp_path / "adapter", value, rows)
    if harm == "pickle":
        (adapter / "adapter_model.bin").write_bytes(b"\x80\x04.")
    if harm == "truncated":
        weights = adapter / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
    digest = "sha256:0" if harm == "digest" else digest_tree(adapter)
    envelope, output = run(adapter=adapter, adapter_digest=digest)
    assert not envelope.ok
    assert envelope.permanent
    assert says in (envelope.error or "")
    assert not (output / RESULTS_FILE).exists()


def test_an_empty_holdout_is_refused_for_good(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty" / "holdout").mkdir(parents=True)
    (tmp_path / "empty" / "holdout" / "00000.jsonl").write_text("")
    envelope, _ = run(holdout=tmp_path / "empty")
    assert (envelope.ok, envelope.permanent) == (False, True)
    assert "has no items" in (envelope.error or "")


def test_suites_that_cannot_be_asked_are_refused_for_good_before_the_base_is_loaded(run: Run, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    envelope, _ = run(suites=tmp_path / "none", base_digest="sha256:other")
    assert (envelope.ok, envelope.permanent) == (False, True)
    assert "has no suites" in (envelope.error or "")


SENTENCES = (
    ("These girls like themselves.", "These girls like himself."),
    ("A cat sees itself.", "A cat sees themselves."),
)


def test_public_tasks_are_asked_on_the_rows_that_are_at_hand(run: Run, tmp_path: Path) -> None:
    pairs = [{"sentence_good": good, "sentence_bad": bad} for good, bad in SENTENCES]
    sums = [{"question": f"How much is {n} + 1?", "answer": f"It is.\n#### {n + 1}"} for n in range(3)]
    described = {"name": "public", "asks": "public", "limit": 2, "max_new_tokens": 8}
    suites = write_suite(tmp_path / "suites", described, {"blimp_anaphor_number_agreement": pairs, "gsm8k": sums})
    envelope, output = run(suites=suites)
    assert envelope.ok, envelope.error
    found = read(output)
    assert found.suites["public"].chance == {"blimp_anaphor_number_agreement": 0.5, "gsm8k": 0}
    for arm in (Arm.BASE, Arm.CANDIDATE):
        right = {item.item: item.correct for item in found.items if item.arm is arm}
        # Without an example the base does not write its answer in the form that GSM8K demands.
        assert right == {
            "blimp_anaphor_number_agreement-0": True,
            "blimp_anaphor_number_agreement-1": True,
            "gsm8k-0": False,
            "gsm8k-1": False,
        }


def test_rows_that_lm_eval_cannot_read_are_refused_for_good_before_the_base_is_loaded(run: Run, tmp_path: Path) -> None:
    described = {"name": "public", "asks": "public"}
    suites = write_suite(tmp_path / "suites", described, {"sciq": [{"question": "What is it?"}]})
    envelope, _ = run(suites=suites, base_digest="sha256:other")
    assert (envelope.ok, envelope.permanent) == (False, True)
    assert "suite public: lm-eval cannot read its rows" in (envelope.error or "")
