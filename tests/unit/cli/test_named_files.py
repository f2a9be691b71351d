"""Files that options name: a file that exists is never overwritten."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.cli.commands.manifest import write_picture
from deploy.cli.errors import UserError
from deploy.cli.load import ImportRequest, load_files
from shared.config.settings import Settings

NAMINGS: dict[str, Callable[[Path, Path], object]] = {
    "itself": lambda file, name: name.write_bytes(file.read_bytes()),
    "symbolic link": lambda file, name: name.symlink_to(file),
    "hard link": lambda file, name: name.hardlink_to(file),
}


@pytest.mark.parametrize("naming", NAMINGS)
async def test_no_option_that_names_an_output_overwrites_a_file(tmp_path: Path, naming: str) -> None:
    karma, name = tmp_path / "karma.jsonl", tmp_path / "named"
    karma.write_text('{"wrong": 1}\n')
    NAMINGS[naming](karma, name)
    request = ImportRequest.of("karma", None, None, None, name)

    with pytest.raises(UserError, match=f"--errors: {name} exists and is not overwritten: name a new file"):
        await load_files(Settings(home=tmp_path / "home", database="postgresql:///x?host=/nowhere"), [karma], request)
    with pytest.raises(UserError, match=f"--picture: {name} exists and is not overwritten: name a new file"):
        write_picture(name, "<svg/>")

    assert karma.read_text() == name.read_text() == '{"wrong": 1}\n'
