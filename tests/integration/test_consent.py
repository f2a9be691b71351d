"""Consent on the real database and bus: revoked for good, everything built from it found, and acted upon by policy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import nats
import pytest

from deploy.cli import karma_consent
from deploy.cli.main import run
from services.harvester.consent import karma_revoked, recalls, revoked_in, touched_by
from services.harvester.handlers import Intents
from services.harvester.remember import remember
from services.registry import app as registry
from services.registry import store
from services.registry.recall import settle
from shared import ledger, outbox
from shared.contracts.harvest import KarmaHarvested
from shared.contracts.intent import TrainingIntent
from shared.contracts.karma import ChatMessage, KarmaRecalled, KarmaRecord, KarmaRevoked, Status
from shared.contracts.message import Service, ritual_id
from shared.contracts.registry import AdapterTainted
from shared.postgres import Pool, open_pool
from shared.service import App, Station
from shared.settings import Settings
from tests.e2e.running import eventually
from tests.services import running

Tell = Callable[..., Any]


async def nothing(_: Station) -> None: ...


intents = Intents()
HARVESTER = App(
    Service.HARVESTER,
    {KarmaRevoked: karma_revoked, TrainingIntent: intents.training_intent},
    nothing,
    {TrainingIntent: intents.answer_invalid},
    (intents.listen,),
)


def truth(id: str) -> KarmaRecord:
    said = (ChatMessage(role="user", content="hi"), ChatMessage(role="assistant", content=f"hello {id}"))
    return KarmaRecord(
        id=id, persona="scribe", messages=said, status=Status.WHITE_TRUTH, consecrated_by="me", session=id
    )


async def harvested(pool: Pool, name: str, manifest: str, state: str = "awakened") -> UUID:
    """A ritual of `scribe` that was given a manifest, and is in `state` by now."""
    async with pool.acquire() as conn, conn.transaction():
        ritual = await ledger.open_ritual(conn, TrainingIntent(persona="scribe", id=name), name, None)
        fact = KarmaHarvested(
            ritual=ritual,
            persona="scribe",
            manifest=manifest,
            holdout="h",
            train=2,
            dev=0,
            held_out=0,
            seen=2,
            excluded={},
        )
        now = await conn.fetchval("SELECT clock_timestamp()")
        assert await ledger.state_fact(conn, fact, Service.HARVESTER, now)
        ended = "clock_timestamp()" if state == "awakened" else "NULL"
        await conn.execute(f"UPDATE ritual SET state = $2, ended_at = {ended} WHERE id = $1", ritual, state)
    return ritual


async def segment(pool: Pool, key: str, used: list[str], *manifests: str) -> None:
    await pool.execute(
        "INSERT INTO harvester.segment (key, persona, first_at, last_at, used, excluded, files, statistics) "
        "VALUES ($1, 'scribe', now(), now(), $2, '{}', '{}', '{}')",
        key,
        used,
    )
    for manifest in manifests:
        await pool.execute("INSERT INTO harvester.manifest_segment VALUES ($1, $2)", manifest, key)


@pytest.fixture
async def history(pool: Pool) -> dict[str, UUID]:
    """Two rituals of one persona: `a` is in both manifests, `b` in the second, `c` in none; a third is older than segments."""
    async with pool.acquire() as conn, conn.transaction():
        await remember(conn, [truth(id) for id in ("a", "b", "c")])
    await segment(pool, "s1", ["a", "x"], "m1", "m2")
    await segment(pool, "s2", ["b", "y"], "m2")
    rituals = {name: await harvested(pool, name, f"m{name[1]}") for name in ("r1", "r2")}
    await harvested(pool, "r0", "m0")
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute("SET LOCAL search_path = registry, public")
        for name, ritual in rituals.items():
            await store.keep_version(conn, f"scribe@{name}", "scribe", f"sha256:{name}", "base", ritual, "/nowhere")
            await store.move_alias(conn, "scribe", f"scribe@{name}", ritual)
    return rituals


@pytest.fixture
async def heard(settings: Settings) -> AsyncIterator[list[Any]]:
    """Everything that is said from now on, in order."""
    client = await nats.connect(settings.nats_url)
    messages: list[Any] = []

    async def keep(message: Any) -> None:
        messages.append((message.subject, json.loads(message.data)))

    for subject in ("karma.recalled", "adapter.tainted", "training.intent"):
        await client.subscribe(subject, cb=keep)
    await client.flush()
    yield messages
    await client.close()


@pytest.fixture
async def bus(settings: Settings) -> AsyncIterator[Any]:
    client = await nats.connect(settings.nats_url)
    yield client.jetstream()
    await client.close()


@pytest.fixture
async def crypt(settings: Settings) -> AsyncIterator[Pool]:
    """Connections as the registry's."""
    pool = await open_pool(settings.database_url, "registry")
    yield pool
    await pool.close()


@pytest.fixture
async def station(settings: Settings, crypt: Pool) -> Station:
    return Station(Service.REGISTRY, settings, crypt, None)  # type: ignore[arg-type]


@pytest.fixture
def told(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> Tell:
    """Run a command in this house: its exit code and what it printed."""
    monkeypatch.setenv("SOULFORGE_DATABASE", settings.database_url)
    monkeypatch.setenv("SOULFORGE_NATS", settings.nats_url)
    monkeypatch.setenv("SOULFORGE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    async def tell(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = await asyncio.to_thread(run, list(words))
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return tell


def of(heard: list[Any], subject: str) -> list[Any]:
    return [body for said, body in heard if said == subject]


async def status(pool: Pool, id: str) -> str:
    return str(await pool.fetchval("SELECT status FROM vectors.karma WHERE id = $1", id))


async def alias(pool: Pool) -> str | None:
    version: str | None = await pool.fetchval("SELECT version FROM registry.alias WHERE persona = 'scribe'")
    return version


async def recall(crypt: Pool, *rituals: UUID, karma: str = "a") -> None:
    async with crypt.acquire() as conn, conn.transaction():
        await store.taint(conn, rituals, [karma])


# -- what is revoked ---------------------------------------------------------------------------------------------------


async def test_what_is_revoked_on_the_bus_is_revoked_in_its_row_and_its_use_is_said(
    settings: Settings, pool: Pool, history: dict[str, UUID], heard: list[Any], bus: Any
) -> None:
    async with running(HARVESTER, settings):
        await bus.publish("karma.revoked", b'{"karma": ["a", "never-seen"], "by": "owner", "why": "mine"}')
        await eventually(lambda: _said(heard, "karma.recalled", 2), 10, "both recalls are said")

    assert await status(pool, "a") == "revoked"
    kept = await pool.fetch("SELECT karma, revoked_by, why FROM revocation ORDER BY karma")
    assert [tuple(row) for row in kept] == [("a", "owner", "mine"), ("never-seen", "owner", "mine")]
    one, other = of(heard, "karma.recalled")
    assert (one["karma"], one["manifests"]) == (["a"], ["m1", "m2"])
    assert set(one["rituals"]) == {str(ritual) for ritual in history.values()}
    assert (other["karma"], other["manifests"], other["rituals"]) == (["never-seen"], [], [])


async def _said(heard: list[Any], subject: str, count: int) -> bool:
    return len(of(heard, subject)) >= count


async def test_the_same_delivery_twice_says_it_once_and_the_same_words_again_say_it_again(
    settings: Settings, pool: Pool, history: dict[str, UUID]
) -> None:
    station = Station(Service.HARVESTER, settings, pool, None)  # type: ignore[arg-type]
    said = KarmaRevoked(karma=("a", "a", "b"), by="owner")

    for sequence in (1, 1, 2):
        await karma_revoked(station, said, delivery(sequence))

    bodies = [
        json.loads(row["body"])
        for row in await pool.fetch("SELECT body FROM outbox WHERE subject = 'karma.recalled' ORDER BY seq")
    ]
    assert [body["karma"] for body in bodies] == [["a"], ["b"], ["a"], ["b"]]
    assert await pool.fetchval("SELECT count(*) FROM revocation") == 2


def delivery(sequence: int) -> Any:
    class Metadata:
        stream = "SOUL"

        class timestamp:
            isoformat = staticmethod(lambda: "2026-11-21")

    class Raw:
        metadata = Metadata()

    Raw.metadata.sequence = type("Sequence", (), {"stream": sequence})  # type: ignore[attr-defined]
    return type("Message", (), {"raw_message": Raw})


async def test_sql_cannot_set_a_revoked_record_back_and_its_id_stays_revoked_when_the_row_comes_back(
    settings: Settings, pool: Pool, history: dict[str, UUID]
) -> None:
    station = Station(Service.HARVESTER, settings, pool, None)  # type: ignore[arg-type]
    await karma_revoked(station, KarmaRevoked(karma=("a",), by="owner"), delivery(1))

    with pytest.raises(asyncpg.RaiseError, match="stays out for good"):
        await pool.execute("UPDATE vectors.karma SET status = 'white_truth' WHERE id = 'a'")
    await pool.execute("DELETE FROM vectors.karma WHERE id = 'a'")
    async with pool.acquire() as conn, conn.transaction():
        assert await remember(conn, [truth("a"), truth("d")]) == 1, "only the one that was never revoked"

    assert await pool.fetchval("SELECT true FROM revocation WHERE karma = 'a'")


async def test_a_recall_blames_no_manifest_for_a_record_that_it_does_not_hold(
    pool: Pool, history: dict[str, UUID]
) -> None:
    async with pool.acquire() as conn:
        apart = await recalls(conn, ["b", "c", "a", "b"])
        whole = await touched_by(conn, ["a", "b", "c"])

    assert {said.karma: said.manifests for said in apart} == {("b",): ("m2",), ("c",): (), ("a",): ("m1", "m2")}
    assert next(said for said in apart if said.karma == ("b",)).rituals == (history["r2"],)
    assert whole == KarmaRecalled(
        karma=("a", "b", "c"), manifests=("m1", "m2"), rituals=tuple(sorted(history.values()))
    )


async def test_many_ids_are_said_in_messages_that_the_bus_takes(pool: Pool) -> None:
    async with pool.acquire() as conn:
        said = await recalls(conn, [f"{number:0200}" for number in range(2500)])

    assert [len(one.karma) for one in said] == [1000, 1000, 500]
    assert max(len(one.model_dump_json()) for one in said) < 2**20 / 4


async def test_a_manifest_that_is_stated_beside_a_revocation_is_seen_by_one_of_the_two(
    settings: Settings, pool: Pool, history: dict[str, UUID]
) -> None:
    station = Station(Service.HARVESTER, settings, pool, None)  # type: ignore[arg-type]
    async with pool.acquire() as conn, conn.transaction():
        assert await revoked_in(conn, "m2") == []
        beside = asyncio.create_task(
            karma_revoked(station, KarmaRevoked(karma=("b", "zz", "x"), by="owner"), delivery(1))
        )
        await asyncio.sleep(0.3)
        assert not beside.done(), "the revocation waits for the statement"
    await beside

    async with pool.acquire() as conn, conn.transaction():
        assert await revoked_in(conn, "m1") == ["x"]
        assert await revoked_in(conn, "m2") == ["b", "x"]


# -- the commands ------------------------------------------------------------------------------------------------------


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
    assert "manifests before segments: not known (1 do" in shown


async def test_recall_of_what_the_house_does_not_know_says_so_and_fails(told: Tell, history: dict[str, UUID]) -> None:
    code, shown, error = await told("recall", "nobody")
    assert (code, shown) == (1, "")
    assert "nothing is known of nobody" in error

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
    monkeypatch.setattr(karma_consent, "DONE_WITHIN_S", 0.5)

    code, _, error = await told("karma", "revoke", "a", "b")

    assert code == 1 and "did not enter 2 of 2" in error and "stored on the bus" in error

    async def done() -> bool:
        return await status(pool, "b") == "revoked"

    async with running(HARVESTER, settings):
        await eventually(done, 10, "the stored revocation is taken")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no id was given"),
        (["--from", "missing"], "missing does not exist"),
        ([""], "can be no id"),
        (["x" * 201], "can be no id"),
        (["a", "--by", ""], "by cannot be used"),
    ],
)
async def test_a_revocation_that_cannot_be_is_one_line(told: Tell, words: list[str], says: str) -> None:
    code, _, error = await told("karma", "revoke", *words)

    assert code == 1 and says in error and error.count("\n") == 1


# -- what the registry does about it -----------------------------------------------------------------------------------


async def test_by_default_a_tainted_adapter_is_warned_of_and_goes_on_serving(
    station: Station, crypt: Pool, history: dict[str, UUID]
) -> None:
    await recall(crypt, *history.values())
    await settle(station)
    await settle(station)

    said = await tainted(crypt)
    assert [(one.version, one.karma, one.action, one.alias_withdrawn) for one in said] == [
        ("scribe@r1", ("a",), "warn", False),
        ("scribe@r2", ("a",), "warn", False),
    ]
    assert await alias(crypt) == "scribe@r2"
    assert [version["name"] for version in await store.wanted(crypt)] == ["scribe@r2"]


async def tainted(crypt: Pool) -> list[AdapterTainted]:
    rows = await crypt.fetch("SELECT body FROM outbox WHERE subject = 'adapter.tainted' ORDER BY seq")
    return [AdapterTainted.model_validate_json(row["body"]) for row in rows]


async def asked(crypt: Pool) -> list[TrainingIntent]:
    rows = await crypt.fetch("SELECT body FROM outbox WHERE subject = 'training.intent' ORDER BY seq")
    return [TrainingIntent.model_validate_json(row["body"]) for row in rows]


async def test_a_withdrawn_name_goes_back_to_the_version_before_where_that_one_is_clean(
    station: Station, crypt: Pool, history: dict[str, UUID], monkeypatch: pytest.MonkeyPatch, told: Tell
) -> None:
    monkeypatch.setenv("SOULFORGE_REGISTRY_ON_RECALL", "withdraw")
    await recall(crypt, history["r2"], karma="b")
    await settle(station)
    await settle(station)

    assert [(one.version, one.alias_withdrawn) for one in await tainted(crypt)] == [("scribe@r2", True)]
    assert await alias(crypt) == "scribe@r1"
    last = await crypt.fetchrow("SELECT version, previous, why FROM alias_history ORDER BY moved_at DESC LIMIT 1")
    assert last and (last["version"], last["previous"]) == ("scribe@r1", "scribe@r2") and "consent" in last["why"]
    assert [version["name"] for version in await store.wanted(crypt)] == ["scribe@r1"]
    assert await asked(crypt) == []
    _, shown, _ = await told("recall", "b")
    assert "scribe@r2  withdrawn 20" in shown


async def test_a_name_with_no_clean_version_points_nowhere_and_asking_it_says_so(
    station: Station, crypt: Pool, history: dict[str, UUID], monkeypatch: pytest.MonkeyPatch, told: Tell
) -> None:
    monkeypatch.setenv("SOULFORGE_REGISTRY_ON_RECALL", "withdraw")
    await recall(crypt, *history.values())
    await settle(station)

    assert await alias(crypt) is None
    assert await store.wanted(crypt) == []
    assert [(one.version, one.alias_withdrawn) for one in await tainted(crypt)] == [
        ("scribe@r1", False),
        ("scribe@r2", True),
    ]
    code, _, error = await told("ask", "scribe", "hello")
    assert code == 1 and "no persona has an adapter" in error and "soulforge intend scribe" in error


async def test_a_clean_ritual_is_asked_for_once_and_only_where_a_name_was_withdrawn(
    station: Station, crypt: Pool, history: dict[str, UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOULFORGE_REGISTRY_ON_RECALL", "withdraw_and_retrain")
    await recall(crypt, history["r1"])
    await settle(station)
    assert await asked(crypt) == [] and await alias(crypt) == "scribe@r2"

    for karma in ("b", "b", "y"):
        await recall(crypt, history["r2"], karma=karma)
        await settle(station)

    intent = (await asked(crypt))[0]
    assert len(await asked(crypt)) == 1
    assert (intent.persona, intent.id, intent.requested_by) == ("scribe", "recall/scribe@r2", "recall policy")
    assert "scribe@r2 was withdrawn: consent" in intent.why
    assert [one.karma for one in await tainted(crypt)] == [("a",), ("b",), ("y",)]


async def test_a_name_never_goes_back_to_a_tainted_version_not_even_for_a_moment(
    station: Station, crypt: Pool, history: dict[str, UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOULFORGE_REGISTRY_ON_RECALL", "withdraw_and_retrain")
    async with crypt.acquire() as conn, conn.transaction():
        await store.move_alias(conn, "scribe", "scribe@r1", history["r1"])
    await recall(crypt, *history.values())
    await settle(station)

    ways = await crypt.fetch("SELECT version, previous FROM alias_history WHERE why <> ''")
    assert [tuple(row) for row in ways] == [(None, "scribe@r1")]
    assert [intent.id for intent in await asked(crypt)] == ["recall/scribe@r1"]


async def test_a_stricter_policy_withdraws_what_was_only_warned_of(
    station: Station, crypt: Pool, history: dict[str, UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    await recall(crypt, *history.values())
    await settle(station)
    monkeypatch.setenv("SOULFORGE_REGISTRY_ON_RECALL", "withdraw")
    await settle(station)
    await settle(station)

    assert await alias(crypt) is None
    assert [one.action for one in await tainted(crypt)] == ["warn", "warn", "withdraw", "withdraw"]


@pytest.mark.parametrize(("policy", "ends"), [("warn", False), ("withdraw", True)])
async def test_a_ritual_under_way_on_revoked_karma_is_asked_to_end_unless_the_policy_only_warns(
    policy: str, ends: bool, station: Station, pool: Pool, crypt: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOULFORGE_REGISTRY_ON_RECALL", policy)
    ritual = await harvested(pool, "r3", "m3", state="evacuated")
    await recall(crypt, ritual)
    await settle(station)

    found = await ledger.find(pool, ritual)
    assert found and bool(found.cancel_requested_at) is ends
    assert await tainted(crypt) == [], "there is no version yet"

    async with crypt.acquire() as conn:
        await store.keep_version(conn, "scribe@late", "scribe", "sha256:late", "base", ritual, "/nowhere")
        await store.move_alias(conn, "scribe", "scribe@late", ritual)
    assert await store.wanted(crypt) == [], "not served before it was decided upon"
    await settle(station)
    assert [one.version for one in await tainted(crypt)] == ["scribe@late"]
    assert (await alias(crypt) is None) is ends


async def test_from_the_revocation_to_the_clean_ritual_over_the_bus(
    settings: Settings,
    pool: Pool,
    history: dict[str, UUID],
    heard: list[Any],
    bus: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOULFORGE_REGISTRY_ON_RECALL", "withdraw_and_retrain")
    clean = ritual_id("recall/scribe@r2")

    async def opened() -> bool:
        return await ledger.find(pool, clean) is not None

    async with running(HARVESTER, settings), running(registry.app, settings):
        await bus.publish("karma.revoked", b'{"karma": ["a"], "by": "owner"}')
        await eventually(opened, 20, "the clean ritual is opened")

        async def all_said() -> bool:
            return not await pool.fetchval("SELECT count(*) FROM registry.outbox WHERE published_at IS NULL")

        await eventually(all_said, 10, "the relay is done with the intent")

    assert await alias(pool) is None
    assert len(of(heard, "training.intent")) == 1
    assert {(one["version"], one["alias_withdrawn"]) for one in of(heard, "adapter.tainted")} == {
        ("scribe@r1", False),
        ("scribe@r2", True),
    }


# -- intents in an outbox ----------------------------------------------------------------------------------------------


async def test_an_intent_waits_for_no_harvester_and_stops_nothing_that_is_said_after_it(
    settings: Settings, pool: Pool, crypt: Pool, bus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "PUBLISH_TIMEOUT_S", 0.3)
    await say(crypt, TrainingIntent(persona="scribe", id="first"))
    await say(crypt, KarmaRecalled(karma=("a",), manifests=(), rituals=()))

    await outbox.relay_all(crypt, bus)

    assert await unsaid(crypt) == []
    assert (await bus.get_last_msg("SOUL", "karma.recalled")).data

    async def opened() -> bool:
        return await ledger.find(pool, ritual_id("first")) is not None

    assert not await opened()
    async with running(HARVESTER, settings):
        await eventually(opened, 10, "the stored intent is taken")


async def test_an_intent_that_nothing_keeps_is_tried_again_and_stops_nothing_else(
    crypt: Pool, bus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "PUBLISH_TIMEOUT_S", 0.3)
    monkeypatch.setattr(outbox, "INTENTS_LOOKED_AT", 0)  # as if the stream had lost it
    await say(crypt, TrainingIntent(persona="scribe", id="first"))
    await say(crypt, KarmaRecalled(karma=("a",), manifests=(), rituals=()))

    with pytest.raises(nats.errors.TimeoutError):
        await outbox.relay_all(crypt, bus)

    assert await unsaid(crypt) == ["training.intent"]


async def test_an_intent_that_the_harvester_refuses_is_not_said_for_ever(
    settings: Settings, crypt: Pool, bus: Any
) -> None:
    await say(crypt, TrainingIntent(persona="scribe", id="first", recipe="no-such"))
    async with running(HARVESTER, settings):
        await outbox.relay_all(crypt, bus)

    assert await unsaid(crypt) == []


async def say(crypt: Pool, message: Any) -> None:
    async with crypt.acquire() as conn:
        await outbox.enqueue(conn, message, ritual_id(message.model_dump_json()), {})


async def unsaid(crypt: Pool) -> list[str]:
    rows = await crypt.fetch("SELECT subject FROM outbox WHERE published_at IS NULL ORDER BY seq")
    return [row["subject"] for row in rows]
