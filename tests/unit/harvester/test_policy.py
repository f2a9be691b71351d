"""The harvest's policy: its defaults are written down for its owner, and a wrong file is refused with the place."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from services.harvester.policy import HarvestPolicy, PolicyError, load_policy
from shared.config.settings import PROJECT

EXAMPLE = PROJECT / "examples" / "harvest.toml"


def test_the_example_is_the_default_and_names_every_field() -> None:
    assert load_policy(EXAMPLE) == HarvestPolicy()
    written = tomllib.loads(EXAMPLE.read_text())
    assert written.keys() == HarvestPolicy.model_fields.keys()
    for section in ("likeness", "split", "shares", "lengths", "prompts"):
        assert written[section].keys() == type(getattr(HarvestPolicy(), section)).model_fields.keys()


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    assert load_policy(tmp_path / "none.toml") == HarvestPolicy()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("licences = 3", "licences"),
        ("[split]\nholdout = 2", "split.holdout"),
        ("[redaction]\nsecrets = 'keep'", "redaction.secrets"),
        ("[prompts]\nfull = 0.7\nshort = 0.7", "prompts"),
        ("colour = 'red'", "colour"),
        ("[split", "cannot be read"),
    ],
)
def test_a_wrong_policy_is_refused_with_the_file_and_the_field(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "harvest.toml"
    path.write_text(text)

    with pytest.raises(PolicyError, match=says) as refused:
        load_policy(path)

    assert str(path) in str(refused.value)
