"""Recall and revoke as the commands that a person gives."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import pytest

from deploy.cli.commands import karma
from shared.config.settings import Settings
from shared.storage.postgres import Pool
from tests.support.consents import HARVESTER, Tell, crypt, history, status, told
from tests.support.running import eventually
from tests.support.services import running

__all__ = ["crypt", "history", "told"]  # the fixtures


async def test_recall_shows_manifests_rituals_adapters_and_the_name_that_serves(
    told: Tell, history: dict[str, UUID]
) -> None:
    code, shown, _ = await told("recall", "a", "c")

    assert code == 0
    one = shown[: shown.index("karma c")]
    for part in (
        "karma a  scribe, white_truth",
        "manifest m1",
        "manifest m2",
        "adapter scribe@r1",
        "adapter scribe@r2",
    ):
        assert part in one, part
    assert shown.count("serves as scribe") == 1 and "scribe@r2  serves as scribe" in shown
    assert str(history["r1"])[:8] in one
    assert "in no manifest" in shown[shown.index("karma c") :]


async def test_recall_of_what_the_house_does_not_know_says_so_and_fails(told: Tell, history: dict[str, UUID]) -> None:
    code, shown, error = await told("recall", "nobody")
    assert (code, shown) == (1, "")
    assert "unknown: nobody" in error

    code, shown, _ = await told("recall", "nobody", "x", "--json")
    report = json.loads(shown)
    assert code == 1 and report["unknown"] == ["nobody"]
    assert report["records"][0]["persona"] is None and len(report["records"][0]["manifests"]) == 2


async def test_revoke_waits_until_it_is_done_and_shows_what_was_built(
    settings: Settings, told: Tell, pool: Pool, history: dict[str, UUID]
) -> None:
    Path("ids").write_text("b\n\n  never-seen \nb\n")
    async with running(HARVESTER, settings):
        code, shown, error = await told("karma", "revoke", "a", "--from", "ids", "--why", "gone", "--by", "her")

    assert code == 0
    assert "3 revoked" in shown and "revoked 20" in shown and "by her, gone" in shown and "adapter scribe@r2" in shown
    assert "1 of them not remembered here" in error
    assert await status(pool, "a") == await status(pool, "b") == "revoked"


async def test_revoke_without_a_harvester_says_that_it_is_stored_and_it_is_done_later(
    settings: Settings, told: Tell, pool: Pool, history: dict[str, UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(karma, "REVOKED_WITHIN_S", 0.5)

    code, _, error = await told("karma", "revoke", "a", "b")

    assert code == 1 and "did not revoke 2 of 2" in error and "stored on the bus" in error

    async def done() -> bool:
        return await status(pool, "b") == "revoked"

    async with running(HARVESTER, settings):
        await eventually(done, 10, "the stored revocation is taken")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no id was given"),
        (["--from", "missing"], "missing does not exist"),
        ([""], "cannot be the id"),
        (["x" * 201], "cannot be the id"),
        (["a", "--by", ""], "--by cannot be used"),
    ],
)
async def test_a_revocation_that_cannot_be_is_one_line(told: Tell, words: list[str], says: str) -> None:
    code, _, error = await told("karma", "revoke", *words)

    assert code == 1 and says in error and error.count("\n") == 1
