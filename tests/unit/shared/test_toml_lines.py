"""Where a key stands in a TOML text, however it is written; a wrong line is worse than none."""

from __future__ import annotations

import pytest

from shared.toml_lines import Place, line_of

TEXT = '''\
# [runes.chat]
forge = "a"

[runes . "chat"]  # a header may look like this
note = """
[runes.other]
port = 1
"""
devices = [
  # port = 2
  0,

  1,
]
env.A = "1"
port = 3

[runes]
small = { port = 4, env = { B = "2" } }

[covens.hearth]'''


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("forge",), 2),
        (("runes", "chat"), 4),
        (("runes", "chat", "note"), 5),
        (("runes", "chat", "devices"), 9),
        (("runes", "chat", "devices", 1), 9),
        (("runes", "chat", "env", "A"), 15),
        (("runes", "chat", "port"), 16),
        (("runes", "small"), 19),
        (("runes", "small", "env", "B"), 19),
        (("covens", "hearth"), 21),
        (("runes", "chat", "missing"), 4),
        (("runes", "chat", "devices", 7), 9),
        (("runes", "other"), 4),  # [runes] is first opened there; the text in the note is none
        (("nowhere",), None),
        (("forge", "deeper"), 2),
        ((), None),
    ],
)
def test_a_key_is_found_where_its_statement_begins(place: Place, line: int | None) -> None:
    assert line_of(TEXT, place) == line
