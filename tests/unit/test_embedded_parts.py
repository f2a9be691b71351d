"""The embedded stack starts the servers that the owner does not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.embedded import nats, postgres
from deploy.embedded.part import in_order
from deploy.embedded.parts import parts
from deploy.services import SERVICES
from shared.config.settings import Settings

DATABASE = "postgresql://me@/soulforge?host=/var/run/postgresql"


@pytest.mark.parametrize(
    ("owners", "started"),
    [
        ({"database": DATABASE}, {"nats", "phoenix"}),
        ({"nats": "nats://h:1"}, {"postgres", "phoenix"}),
        ({"phoenix": "http://h:1"}, {"postgres", "nats"}),
        ({"database": DATABASE, "nats": "nats://h:1", "phoenix": "http://h:1"}, set()),
    ],
)
def test_a_server_of_the_owners_is_not_started_and_nothing_waits_for_it(
    owners: dict[str, str], started: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_make_data_dir", lambda data, _: data.mkdir())
    settings = Settings.model_validate({"home": tmp_path, **owners})
    postgres.initialise(settings)
    nats.initialise(settings)

    found = in_order(parts(settings, {}))

    assert {part.name for part in found} == {*started, *SERVICES}
    assert (tmp_path / "postgres").exists() == ("database" not in owners)
