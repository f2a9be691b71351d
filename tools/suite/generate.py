"""Write the base-logic suite: one task file and one file of items per kind, the same bytes on every run.

python -m tools.suite.generate
"""

from __future__ import annotations

from shared.config.settings import PROJECT
from tools.suite import grammar, tasks, words, world
from tools.suite.items import Kind, lines

SUITE = "base_logic"
FOLDER = PROJECT / "services/verifier/suites" / SUITE

# The data file is named relative to the folder of suites: lm-eval resolves it against its working directory.
TASK = """\
task: {suite}_{kind}
tag: {suite}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {suite}/{kind}.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{context}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""


def kinds() -> tuple[Kind, ...]:
    """Every kind of the suite, in the order of its table."""
    return tuple(make() for part in (grammar, world, words, tasks) for make in part.KINDS)


def files(suite: tuple[Kind, ...]) -> dict[str, str]:
    """File name -> content."""
    items = {f"{kind.name}.jsonl": lines(kind) for kind in suite}
    return items | {f"{kind.name}.yaml": TASK.format(suite=SUITE, kind=kind.name) for kind in suite}


def main() -> None:
    for name, content in files(kinds()).items():
        (FOLDER / name).write_text(content, encoding="utf-8")
    print(f"{sum(len(kind.items) for kind in kinds())} items of {len(kinds())} kinds in {FOLDER}")


if __name__ == "__main__":
    main()
