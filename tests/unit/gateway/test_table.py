"""The table on disk: whole after every write, and none at all where it cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.gateway.kept import Kept
from services.gateway.table import Persona, Table, read_table

TABLE = Table(read_at=5.0, personas={"scribe": Persona(version="scribe@a", trouble=None)})


def kept(folder: Path) -> Kept[Table]:
    return Kept(folder, "table", Table())


async def test_a_restart_knows_the_table(tmp_path: Path) -> None:
    assert read_table(kept(tmp_path)) == Table()

    await kept(tmp_path).write(TABLE)

    assert read_table(kept(tmp_path)) == TABLE
    assert [file.name for file in kept(tmp_path).file.parent.iterdir()] == ["table.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"read_at": "soon"}', '{"unknown": 1}'])
async def test_a_file_that_is_no_table_stops_nothing(text: str, tmp_path: Path) -> None:
    await kept(tmp_path).write(TABLE)
    kept(tmp_path).file.write_text(text)

    assert read_table(kept(tmp_path)) == Table()
