"""The score of each arm on public tasks is that of lm-eval's own command line, to the digit."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from shared.contracts.verify import Arm
from shared.storage.digests import digest_tree
from shared.storage.suites import PUBLIC_TASKS
from tests.support.adapters import save_adapter
from tests.support.evaluating import evaluate, read, write_suite
from tests.support.model import JOBS_PYTHON, MODEL, needs_jobs

# A folder with blimp/PARADIGM.jsonl and gsm8k/test.jsonl, in the columns of the published data.
DATA = Path(os.environ.get("SOULFORGE_TEST_DATA", "no folder"))
PARADIGMS = ("anaphor_number_agreement", "principle_A_case_1", "wh_questions_object_gap")
ITEMS = int(os.environ.get("SOULFORGE_TEST_ITEMS", "50"))  # of each task
TOKENS = 96  # of GSM8K's answers
TIMEOUT_S = 1500

pytestmark = [
    needs_jobs,
    pytest.mark.extended,
    pytest.mark.timeout(3 * TIMEOUT_S),
    pytest.mark.skipif(not DATA.is_dir(), reason="needs public data: SOULFORGE_TEST_DATA names no folder"),
]


def rows(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def worked(problems: list[dict[str, str]]) -> list[dict[str, str]]:
    """Each problem after two worked ones, the last of the file: without them a small base has no answer in the demanded form."""
    shown = "".join(f"{one['question']}\nAnswer: {one['answer']}\n\nQuestion: " for one in problems[-2:])
    return [one | {"question": shown + one["question"]} for one in problems]


def command_line(folder: Path, suites: Path, suite: str, limit: int, adapter: Path | None) -> dict[str, float]:
    """The scores that `lm_eval` reports, by task, on files that a user would write."""
    installed = subprocess.run(
        [str(JOBS_PYTHON), "-c", "import lm_eval.tasks; print(lm_eval.tasks.__path__[0])"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    files = []
    for file in sorted((suites / suite).glob("*.jsonl")):
        replaced = f"dataset_path: json\ndataset_name: null\ndataset_kwargs: {{data_files: {{test: {file}}}}}\n"
        splits = "training_split: null\nvalidation_split: null\ntest_split: test\nfewshot_split: test\nnum_fewshot: 0\n"
        path = folder / f"{file.stem}.yaml"
        path.write_text(f"include: {installed}/{PUBLIC_TASKS[file.stem]}\n{replaced}{splits}")
        files.append(str(path))
    peft = f",peft={adapter}" if adapter else ""
    arguments = f"pretrained={MODEL},dtype=auto,softmax_dtype=float32{peft}"
    command = [
        str(JOBS_PYTHON),
        "-m",
        "lm_eval",
        "run",
        "--model",
        "hf",
        "--model_args",
        arguments,
        "--batch_size",
        "32",
    ]
    command += ["--tasks", ",".join(files), "--limit", str(limit), "--gen_kwargs", f"max_gen_toks={TOKENS}"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache")}
    ran = subprocess.run(
        [*command, "--output_path", str(folder / "out")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    [found] = (folder / "out").rglob("results_*.json")
    results = json.loads(found.read_text())["results"]
    return {
        task: next(scores[key] for key in ("acc,none", "exact_match,strict-match") if key in scores)
        for task, scores in results.items()
    }


@pytest.mark.parametrize("kind", ["likelihood", "generated"])
def test_the_score_of_each_arm_is_the_command_line_s(tmp_path: Path, kind: str) -> None:
    tasks = (
        {f"blimp_{paradigm}": rows(DATA / "blimp" / f"{paradigm}.jsonl") for paradigm in PARADIGMS}
        if kind == "likelihood"
        else {"gsm8k": worked(rows(DATA / "gsm8k" / "test.jsonl"))}
    )
    described = {"name": "public", "asks": "public", "limit": ITEMS, "max_new_tokens": TOKENS}
    suites = write_suite(tmp_path / "suites", described, tasks)
    adapter = save_adapter(tmp_path / "adapter", value=0.2)
    envelope = evaluate(
        tmp_path / "ours", suites, adapter=adapter, adapter_digest=digest_tree(adapter), timeout_s=TIMEOUT_S
    )
    assert envelope.ok, envelope.error
    found = read(tmp_path / "ours")
    for arm in (Arm.BASE, Arm.CANDIDATE):
        (tmp_path / arm).mkdir()
        expected = command_line(tmp_path / arm, suites, "public", ITEMS, adapter if arm is Arm.CANDIDATE else None)
        ours = {
            task: sum(item.correct for item in found.items if (item.kind, item.arm) == (task, arm)) / ITEMS
            for task in tasks
        }
        print(arm, ours)
        assert ours == expected
