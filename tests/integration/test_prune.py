"""Pruning a real home and a real database: what is needed stays, what is old goes, and strangers are left alone."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from deploy.home import claim
from deploy.prune.decide import get_ages
from deploy.prune.prune import PruneError, prune
from services.harvester.harvest import harvest_connection
from services.registry import store
from services.registry.bundle import version_name
from services.registry.store import Version
from shared.config.settings import Settings
from shared.config.tables import PruneConfig
from shared.contracts.karma import KarmaRecalled
from shared.messaging.dead_letters import record_dead_letter
from shared.messaging.outbox import enqueue
from shared.storage.artifacts import PRUNING, Artifacts
from shared.storage.digests import digest_tree
from shared.storage.postgres import Pool
from tests.support.adapters import save_adapter
from tests.support.bundles import frozen
from tests.support.consents import Tell, crypt, harvested, make_champion, told

__all__ = ["crypt", "told"]  # the fixtures

LONG_AGO_S = 400 * 86400
AGES = get_ages(PruneConfig())


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    """The Lab of a home of its own, where the command `told` works too."""
    claim(tmp_path / "home")
    return Artifacts(tmp_path / "home")


class Lab:
    """Makes rituals that ended long ago, with their rows and their folders."""

    def __init__(self, pool: Pool, crypt: Pool, artifacts: Artifacts) -> None:
        self.pool, self.crypt, self.artifacts = pool, crypt, artifacts

    async def add(self, name: str, number: int, state: str = "awakened", days: float = 400) -> UUID:
        """A ritual with its runs, its manifest `number` and the holdout of that."""
        manifest, holdout = f"sha256:{number:064x}", f"sha256:{number + 8:064x}"
        ritual = await harvested(self.pool, name, manifest)
        ago = f"clock_timestamp() - interval '{days} days'"
        ended = "NULL" if state == "evacuated" else ago
        await self.pool.execute(f"UPDATE ritual SET state = $2, ended_at = {ended} WHERE id = $1", ritual, state)
        fact = "jsonb_build_object('manifest', $2::text, 'holdout', $3::text)"
        await self.pool.execute(
            f"UPDATE ritual_fact SET body = body || {fact}, stated_at = {ago} WHERE ritual = $1",
            ritual,
            manifest,
            holdout,
        )
        await self.pool.execute(f"INSERT INTO manifest VALUES ($1, 'scribe', $2, 1, 1, 1, {ago})", manifest, holdout)
        checkpoints = self.artifacts.run(ritual, 1, "trainer") / "out" / "checkpoints"
        for folder in (checkpoints, self.artifacts.manifest(manifest), self.artifacts.holdout(holdout)):
            folder.mkdir(parents=True)
            (folder / "file").write_text("x" * 1000)
            os.utime(folder, times=(time.time() - LONG_AGO_S,) * 2)
        return ritual

    async def serve(self, ritual: UUID, value: float) -> Path:
        """Make the persona's alias point to an adapter of this ritual; returns its bundle."""
        source = save_adapter(self.artifacts.runs(ritual) / "adapter", value)
        digest = digest_tree(source)
        bundle = frozen(self.artifacts, source)
        version = Version(version_name("scribe", digest), "scribe", digest, "base", ritual, str(bundle))
        async with self.crypt.acquire() as conn, conn.transaction():
            await store.insert_version(conn, version)
            await make_champion(conn, "scribe", version.name, ritual)
        return bundle

    def has(self, ritual: UUID) -> bool:
        return self.artifacts.runs(ritual).is_dir()

    def manifests(self) -> set[int]:
        """The numbers of the manifests that are there with their holdouts."""
        manifests, holdouts = (
            {int(path.name, 16) for path in (self.artifacts.lab / name).iterdir()} for name in ("manifests", "holdouts")
        )
        assert holdouts == {number + 8 for number in manifests}
        return manifests


@pytest.fixture
def lab(admin: Pool, crypt: Pool, artifacts: Artifacts) -> Lab:
    return Lab(admin, crypt, artifacts)


async def test_what_is_needed_stays_and_what_is_old_goes(lab: Lab, pool: Pool, owner: Pool) -> None:
    old = await lab.add("old", 0, "failed")
    superseded, previous, live = [await lab.add(name, number) for number, name in enumerate(("a", "b", "c"), 1)]
    for value, ritual in enumerate((superseded, previous, live), 1):
        bundle = await lab.serve(ritual, value / 8)
    (bundle / "adapter/adapter_model.safetensors").unlink()
    open_, lettered = await lab.add("open", 4, "evacuated"), await lab.add("lettered", 5, "failed")
    await record_dead_letter(pool, "gpu.evacuated", f'{{"ritual": "{lettered}"}}'.encode(), {}, "wrong", "one")
    recent, banished = await lab.add("recent", 6, "failed", days=5), await lab.add("banished", 7, "banished", days=60)

    report = await prune(owner, lab.artifacts.home, AGES, dry_run=False)

    runs = {
        name: lab.has(ritual) for name, ritual in (("old", old), ("superseded", superseded), ("previous", previous))
    }
    assert runs == {"old": False, "superseded": False, "previous": False}, "bundles of the others are in the Crypt"
    assert all(map(lab.has, (live, open_, lettered, recent, banished))), "the bundle of the live version is damaged"
    for ritual in (recent, banished):
        assert not any(lab.artifacts.runs(ritual).glob("1/trainer/out/*")), "their checkpoints have gone"
    assert lab.manifests() == {2, 3, 4, 5, 6}, "those of live, previous, open, lettered; 6 is recent"
    assert report.left == () and not list(lab.artifacts.trash().iterdir())
    assert {one.kind: (one.count, one.bytes > 0) for one in report.removed if one.count} == {
        "checkpoints": (2, True), "runs": (3, True), "manifests": (3, True), "holdouts": (3, True),
    }  # fmt: skip
    assert await pool.fetchval("SELECT count(*) FROM manifest") == 8, "what was used stays on record"
    again = await prune(owner, lab.artifacts.home, AGES, dry_run=False)
    assert not any(one.count for one in again.removed), "it is safe to repeat"


async def test_the_last_holdout_of_a_persona_stays(lab: Lab, owner: Pool) -> None:
    for number, days in enumerate((300, 400)):
        await lab.add(str(number), number, "failed", days)

    await prune(owner, lab.artifacts.home, AGES, dry_run=False)

    assert lab.manifests() == {0}


async def test_a_dry_run_changes_nothing(lab: Lab, told: Tell) -> None:
    ritual = await lab.add("old", 0, "failed")

    code, shown, noted = await told("prune", "--dry-run")

    assert code == 0 and lab.has(ritual)
    assert [line.split() for line in shown.splitlines() if line.startswith("runs")] == [["runs", "1", "1000", "B"]]
    assert "nothing was removed" in noted
    code, again, _ = await told("prune")
    assert (code, again) == (0, shown) and not lab.has(ritual)


async def test_one_age_is_taken_for_everything(lab: Lab, told: Tell) -> None:
    ritual = await lab.add("recent", 0, "failed", days=3)

    assert (await told("prune", "--older-than", "4"))[0] == 0 and lab.has(ritual)
    assert (await told("prune", "--older-than", "2"))[0] == 0 and not lab.has(ritual)


async def test_strangers_are_left_alone_and_named(lab: Lab, owner: Pool, tmp_path: Path) -> None:
    old, artifacts, outside = await lab.add("old", 0, "failed"), lab.artifacts, tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_text("mine")
    strangers = [artifacts.lab / "runs" / "mine", artifacts.lab / "manifests" / "notes", artifacts.runs(uuid4())]
    for stranger in strangers:
        stranger.mkdir()
    link = artifacts.lab / "runs" / str(uuid4())
    link.symlink_to(outside)
    (artifacts.runs(old) / "link").symlink_to(outside)

    report = await prune(owner, artifacts.home, AGES, dry_run=False)

    assert not lab.has(old) and (outside / "mine").read_text() == "mine"
    assert all(stranger.is_dir() for stranger in strangers) and link.is_symlink()
    assert sorted(line.split(":")[0] for line in report.left) == sorted(map(str, [*strangers, link]))


async def test_a_lab_that_leads_out_of_the_home_is_left_alone(lab: Lab, owner: Pool, tmp_path: Path) -> None:
    ritual = await lab.add("old", 0, "failed")
    runs = lab.artifacts.lab / "runs"
    runs.rename(tmp_path / "elsewhere")
    runs.symlink_to(tmp_path / "elsewhere")

    report = await prune(owner, lab.artifacts.home, AGES, dry_run=False)

    assert lab.has(ritual) and report.left == (f"{runs}: it leads out of the home",)


async def test_what_an_interrupted_pruner_left_is_removed(lab: Lab, owner: Pool) -> None:
    left = lab.artifacts.trash() / "half"
    left.mkdir()

    await prune(owner, lab.artifacts.home, AGES, dry_run=True)
    assert left.is_dir()
    await prune(owner, lab.artifacts.home, AGES, dry_run=False)
    assert not left.exists()


async def test_published_messages_and_errors_of_ended_rituals_go(lab: Lab, pool: Pool, owner: Pool) -> None:
    ended, open_ = await lab.add("ended", 0, "failed"), await lab.add("open", 1, "evacuated")
    for ritual in (ended, open_):
        await pool.execute(
            "INSERT INTO ritual_error (ritual, owner, version, count, error, retry_at) VALUES ($1, 'forge', 1, 1, '', now())",
            ritual,
        )
    message = KarmaRecalled(karma=("a",), manifests=(), rituals=())
    ids = [uuid4() for _ in range(3)]
    async with pool.acquire() as conn, conn.transaction():
        for id in ids:
            await enqueue(conn, message, id, {})
    await pool.execute("UPDATE outbox SET created_at = 'epoch', published_at = now() WHERE event_id = $1", ids[0])
    await pool.execute("UPDATE outbox SET published_at = 'epoch' WHERE event_id = $1", ids[1])

    dry = await prune(owner, lab.artifacts.home, AGES, dry_run=True)
    assert await pool.fetchval("SELECT count(*) FROM outbox WHERE event_id = $1", ids[1]) == 1
    report = await prune(owner, lab.artifacts.home, AGES, dry_run=False)

    assert dry == report and [one.count for one in report.removed[-2:]] == [1, 1]
    assert await pool.fetchval(
        "SELECT array_agg(event_id ORDER BY seq) FROM outbox WHERE event_id = ANY ($1)", ids
    ) == [
        ids[0],
        ids[2],
    ]
    assert [row[0] for row in await pool.fetch("SELECT ritual FROM ritual_error")] == [open_]


async def test_nothing_is_pruned_during_a_harvest(lab: Lab, owner: Pool, settings: Settings) -> None:
    async with harvest_connection(settings.database_url("harvester"), "scribe"):
        with pytest.raises(PruneError, match="a harvest or another pruner is under way"):
            await prune(owner, lab.artifacts.home, AGES, dry_run=False)
    await prune(owner, lab.artifacts.home, AGES, dry_run=False)


async def test_a_harvest_waits_for_the_pruner(pool: Pool, settings: Settings) -> None:
    async def harvest() -> None:
        async with harvest_connection(settings.database_url("harvester"), "scribe"):
            pass

    async with pool.acquire() as conn:
        await conn.execute("SELECT pg_advisory_lock(hashtextextended($1, 0))", PRUNING)
        waiting = asyncio.create_task(harvest())
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await conn.execute("SELECT pg_advisory_unlock(hashtextextended($1, 0))", PRUNING)
    await asyncio.wait_for(waiting, 10)


async def test_a_folder_that_is_no_home_is_refused(owner: Pool, tmp_path: Path) -> None:
    with pytest.raises(PruneError, match="is no home of Soulforge"):
        await prune(owner, tmp_path, AGES, dry_run=False)
    assert list(tmp_path.iterdir()) == []
