"""smolagents keeps calls and results as text under roles of its own: what of it can be read, and what cannot."""

from __future__ import annotations

import pytest

from services.harvester.trajectories.path import rebuild
from services.harvester.trajectories.spans import NoPathError
from tests.unit.harvester.golden_tape import SYSTEM, USER, Tape, saying

DEEP = saying("Nine metres.")
ASKED = [SYSTEM, USER]


def smol(*messages: tuple[str, str]) -> Tape:
    tape = Tape()
    tape.model([*ASKED, *({"role": role, "content": text} for role, text in messages)], DEEP)
    return tape


def test_code_that_calls_tools_leaves_no_path() -> None:
    code = {"id": "a", "type": "function", "function": {"name": "python_interpreter", "arguments": "look('sea')"}}
    tape = smol(("tool-call", f"Calling tools:\n{[code]}"), ("tool-response", "Observation:\n9 m"))

    with pytest.raises(NoPathError, match="writes its tool calls as code"):
        rebuild(tape.spans)


@pytest.mark.parametrize(
    "text", ["Calling tools:\n[{'id': ", "Calling tools:\n'look'", "look", "Calling tools:\n" + "[" * 9999]
)
def test_calls_that_cannot_be_read_leave_no_path(text: str) -> None:
    with pytest.raises(NoPathError, match="cannot be read"):
        rebuild(smol(("tool-call", text)).spans)


def test_calls_longer_than_a_record_leave_no_path() -> None:
    with pytest.raises(NoPathError, match="longer than a record may be"):
        rebuild(
            smol(("tool-call", f"Calling tools:\n{[{'function': {'name': 'look', 'arguments': 'a' * 2**20}}]}")).spans
        )


def test_one_text_for_several_results_leaves_no_path_where_no_span_has_them() -> None:
    calls = [{"id": id, "function": {"name": "look", "arguments": {"at": id}}} for id in ("a", "b")]
    tape = smol(("tool-call", f"Calling tools:\n{calls}"), ("tool-response", "Observation:\n9 m\n2 m"))

    with pytest.raises(NoPathError, match="a tool call in the trace has no recorded result"):
        rebuild(tape.spans)
