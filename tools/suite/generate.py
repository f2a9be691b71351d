"""Write the items of the shipped suites: a file for each kind, the same bytes on every run.

python -m tools.suite.generate
"""

from __future__ import annotations

from shared.config.settings import PROJECT
from tools.suite import general, grammar, harder, items, questions, safety, small_tasks, tasks, words, world
from tools.suite.items import Kind
from tools.suite.questions import AnswerKind

FOLDER = PROJECT / "services/verifier/suites"


def kinds() -> tuple[Kind, ...]:
    """Every kind of base-logic, in the order of its table."""
    return tuple(make() for part in (grammar, world, words, tasks, harder) for make in part.KINDS)


def answer_kinds() -> dict[str, tuple[AnswerKind, ...]]:
    """The kinds of each suite whose answers are generated."""
    return {
        "general": tuple(make() for make in (*general.KINDS, *small_tasks.GENERAL)),
        "rigidity": tuple(make() for make in small_tasks.RIGIDITY),
        "safety": tuple(make() for make in safety.SAFETY),
        "refusals": tuple(make() for make in safety.REFUSALS),
    }


def files() -> dict[str, str]:
    """Path below the folder of suites -> content."""
    written = {f"base-logic/{kind.name}.jsonl": items.lines(kind) for kind in kinds()}
    for suite, made in answer_kinds().items():
        written |= {f"{suite}/{kind.name}.jsonl": questions.lines(kind) for kind in made}
    return written


def main() -> None:
    for name, content in files().items():
        (FOLDER / name).parent.mkdir(exist_ok=True)
        (FOLDER / name).write_text(content, encoding="utf-8")
        print(f"{content.count(chr(10)):>4} {name}")


if __name__ == "__main__":
    main()
