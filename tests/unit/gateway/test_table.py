"""The table on disk: whole after every write, and none at all where it cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.gateway.table import Persona, Table, read_table, table_file, write_table

TABLE = Table(read_at=5.0, personas={"scribe": Persona(version="scribe@a", trouble=None)})


def test_a_restart_knows_the_table(tmp_path: Path) -> None:
    assert read_table(tmp_path) == Table()

    write_table(tmp_path, TABLE)

    assert read_table(tmp_path) == TABLE
    assert [file.name for file in table_file(tmp_path).parent.iterdir()] == ["table.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"read_at": "soon"}', '{"unknown": 1}'])
def test_a_file_that_is_no_table_stops_nothing(text: str, tmp_path: Path) -> None:
    write_table(tmp_path, TABLE)
    table_file(tmp_path).write_text(text)

    assert read_table(tmp_path) == Table()
