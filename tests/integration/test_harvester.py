"""The harvester as a service: from an intent on the bus to the fact in the ledger, with what its owner configured."""

from __future__ import annotations

import json
from pathlib import Path

from services.harvester.app import app
from services.harvester.harvest import harvest_connection
from services.harvester.split import Split
from shared.config.settings import Settings
from shared.contracts.intent import TrainingIntent
from shared.contracts.roles import Role
from shared.messaging.client import connect
from shared.storage.postgres import Pool
from tests.support.configurations import configured
from tests.support.harvest_outcome import outcome
from tests.support.harvests import example, record, remember, session_on
from tests.support.running import eventually
from tests.support.services import running


async def test_a_harvest_is_stated_with_its_counts_and_its_ledger(pool: Pool, settings: Settings) -> None:
    await remember(pool, example("scribe"))

    subject, said = await outcome(pool, settings)

    assert subject == "karma.harvested"
    assert said["seen"] == 243 == said["train"] + said["dev"] + said["held_out"] + sum(said["excluded"].values())
    ledger = dict(await pool.fetch("SELECT reason, count(*) FROM exclusion GROUP BY reason"))
    assert ledger == said["excluded"]
    assert await pool.fetchval("SELECT count(*) FROM sealed") == said["held_out"]
    records = await pool.fetch("SELECT manifest, count(*) AS held FROM manifest_record GROUP BY manifest")
    ((manifest, held),) = records
    assert manifest == said["manifest"] and held >= said["train"] + said["dev"] + said["held_out"]
    sides = dict(await pool.fetch("SELECT side, count(*) FROM manifest_record GROUP BY side"))
    assert (sides["train"], sides["dev"], sides["holdout"]) == (said["train"], said["dev"], said["held_out"])
    assert sides["rejected"] == held - said["train"] - said["dev"] - said["held_out"] > 0
    assert (
        await pool.fetchval("SELECT count(*) FROM vectors.karma WHERE embedding IS NULL AND status <> 'revoked'") == 0
    )


async def test_a_query_uses_only_what_is_near_to_it(pool: Pool, settings: Settings, tmp_path: Path) -> None:
    settings = configured(settings, tmp_path, harvest={"min_train": 1, "min_held_out": 1})
    garden, money = "the apple tree in the garden needs pruning", "the bank charged interest on the loan"
    for side in (Split.TRAIN, Split.HOLDOUT):
        session = session_on(side)
        await remember(
            pool, [record(f"garden-{side}", session, f"Note for {side}: {garden}.", "Prune the apple tree.")]
        )
        await remember(
            pool, [record(f"money-{side}", session, f"Note for {side}: {money}.", "Ask the bank for the rate.")]
        )

    subject, said = await outcome(pool, settings, query="gardening, fruit trees", query_likeness=0.3)

    assert (subject, said["excluded"]) == ("karma.harvested", {"filtered": 2})
    train = settings.home / "lab" / "manifests" / said["manifest"].removeprefix("sha256:") / "train" / "00000.jsonl"
    assert [json.loads(line)["id"] for line in train.read_text().splitlines()] == ["garden-train"]


async def test_a_view_that_is_not_there_refuses_the_ritual(pool: Pool, settings: Settings, tmp_path: Path) -> None:
    settings = configured(settings, tmp_path, harvest={"view": "elsewhere.karma"})

    subject, said = await outcome(pool, settings)

    assert subject == "karma.refused"
    assert "elsewhere.karma" in said["reason"]


async def test_without_an_embedder_the_refusal_says_what_to_do(pool: Pool, settings: Settings, tmp_path: Path) -> None:
    await remember(pool, example("scribe")[:5])
    app_without = configured(settings, tmp_path, jobs={"python": str(tmp_path / "python")})

    subject, said = await outcome(pool, app_without)

    assert subject == "karma.refused"
    assert "make setup" in said["reason"] and "likeness.by_meaning = false" in said["reason"]


async def test_what_sql_revoked_is_announced_with_what_was_built_from_it(pool: Pool, settings: Settings) -> None:
    await remember(pool, example("scribe"))
    _, said = await outcome(pool, settings)
    used = await pool.fetchval("SELECT min(karma) FROM manifest_record")

    await pool.execute("UPDATE vectors.karma SET status = 'revoked' WHERE id = $1", used)
    async with running(app, settings):

        async def announced() -> bool:
            return bool(await pool.fetchval("SELECT count(*) FROM outbox WHERE subject = 'karma.recalled'"))

        await eventually(announced, 20, "the revocation is announced")
    body = json.loads(await pool.fetchval("SELECT body FROM outbox WHERE subject = 'karma.recalled'"))
    assert body["karma"] == [used] and body["manifests"] == [said["manifest"]]


async def test_a_persona_that_is_harvested_elsewhere_delays_no_other(pool: Pool, settings: Settings) -> None:
    async def refused() -> set[str]:
        rows = await pool.fetch(
            "SELECT persona FROM ritual JOIN ritual_fact ON ritual = id WHERE subject = 'karma.refused'"
        )
        return {row["persona"] for row in rows}

    async def only_the_other() -> bool:
        return await refused() == {"coder"}

    async def both() -> bool:
        return await refused() == {"coder", "scribe"}

    async with running(app, settings):
        async with harvest_connection(settings.database_url("harvester"), "scribe"):
            client = await connect(settings, Role.PUBLISHER)
            for persona in ("scribe", "coder"):
                await client.publish(TrainingIntent.subject, json.dumps({"persona": persona}).encode())
            await client.close()
            await eventually(only_the_other, 30, "the other persona's ritual is decided")
        await eventually(both, 30, "then the first one's too")
