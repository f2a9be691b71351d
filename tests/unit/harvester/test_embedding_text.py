"""What of a record is embedded: its user's and assistant's words, bounded, from any JSON."""

from __future__ import annotations

import pytest

from services.harvester.embedding.keep import HEAD, TAIL, embedding_text
from services.harvester.embedding.search import nearest_sql


def test_calls_and_their_results_are_read_and_the_system_prompt_is_not() -> None:
    messages = [
        {"role": "system", "content": "You are a scribe."},
        {"role": "user", "content": "  What is\nnew? "},
        {"role": "assistant", "tool_calls": [{"function": {"name": "list", "arguments": '{"since":  1}'}}, {}, 3]},
        {"role": "tool", "content": "a long listing"},
        {"role": "assistant", "content": "Nothing."},
    ]
    assert embedding_text(messages) == 'What is new?\nlist {"since": 1}\na long listing\nNothing.'


def test_of_a_long_talk_the_beginning_and_the_end_are_kept() -> None:
    messages = [
        {"role": "user", "content": "first " + "a" * 5000},
        {"role": "assistant", "content": "b" * 5000 + " last"},
    ]
    text = embedding_text(messages)
    assert text.startswith("first ") and text.endswith(" last") and len(text) <= HEAD + TAIL + 1


def test_a_lone_surrogate_becomes_a_character() -> None:
    assert embedding_text([{"role": "user", "content": "x\ud800y"}]) == "x?y"


@pytest.mark.parametrize("value", [None, 3, "x", {"role": "user"}, [None, 1, "x", {"role": "user", "content": ["x"]}]])
def test_what_is_no_conversation_has_no_text(value: object) -> None:
    assert embedding_text(value) == ""


def test_a_model_without_an_index_is_not_searched() -> None:
    with pytest.raises(ValueError, match="no index"):
        nearest_sql("text-embedding-3' OR true")
