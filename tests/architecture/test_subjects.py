"""Subjects, and the fields of facts that SQL reads, come from the message classes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from shared.config.settings import PROJECT
from shared.contracts.ritual import FACTS
from shared.contracts.roles import PUBLISHERS

SUBJECTS = re.compile(rf"(?<![\w.])({'|'.join(re.escape(message.subject) for message in PUBLISHERS)})(?![\w.])")
RINGS = ("shared", "services", "deploy", "bench", "tools", "examples")


def product() -> Iterator[Path]:
    """The files of the product but for the contracts themselves."""
    for ring in RINGS:
        yield from (path for path in (PROJECT / ring).rglob("*.py") if "contracts" not in path.parent.name)


def literals(path: Path) -> Iterator[str]:
    """Every string in a file that is not a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in statements:
            yield node.value


def test_no_subject_is_written_out_outside_the_contracts() -> None:
    written = {str(path.relative_to(PROJECT)) for path in product() for text in literals(path) if SUBJECTS.search(text)}

    assert written == {"examples/intent.py"}, "which plays another component, and knows nothing of ours"


def test_every_field_that_sql_reads_from_a_fact_is_one_of_a_fact() -> None:
    keys = {key for path in product() for text in literals(path) for key in re.findall(r"body ->> '(\w+)'", text)}
    fields = {field for fact in FACTS for field in fact.model_fields}

    assert keys and keys <= fields
