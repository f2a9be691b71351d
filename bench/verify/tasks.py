"""Write the items of suites as tasks of lm-eval's command line: `python -m bench.verify.tasks SUITES BASE FOLDER`.

Runs in the environment of the jobs: prompts are rendered by the evaluator, with the base's chat template.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from transformers import AutoTokenizer

from services.verifier.evaluator.answers import rendered_item
from services.verifier.evaluator.choices import task_of
from shared.storage.suites import LoadedSuite, load_suites


def main(suites: Path, base: Path, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    for suite in load_suites(suites).values():
        for kind in suite.files:
            task = task_of(suite, kind) if suite.choices else answers_task(suite, kind, tokenizer, folder)
            (folder / f"{task['task']}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")


def answers_task(suite: LoadedSuite, kind: str, tokenizer: Any, folder: Path) -> dict[str, Any]:
    """A kind as a task that generates: lm-eval cannot check by rule, so the answers are compared with nothing."""
    file, name = folder / f"{suite.name}_{kind}.jsonl", f"{suite.name}_{kind}"
    lines = [json.dumps({"prompt": rendered_item(tokenizer, item)}) + "\n" for item in suite.answers[kind]]
    file.write_text("".join(lines), encoding="utf-8")
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "none",
        "generation_kwargs": {
            "until": [tokenizer.eos_token],
            "max_gen_toks": suite.suite.max_new_tokens,
            "do_sample": False,
        },
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": suite.suite.version},
    }


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
