"""Hostile text in every table, file and answer that a command shows: no command prints one control character of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import typer

from deploy import bootstrap
from deploy.cli.commands import intend, karma, runes
from deploy.cli.commands.intend import IntentResult
from deploy.cli.main import app
from deploy.cli.queries import ask
from deploy.cli.queries.ask import Answered
from deploy.cli.views.config import to_toml
from deploy.embedded import stack
from deploy.embedded.part import PartError
from services.orchestrator import store as orchestrator
from services.orchestrator.steps import Step, Steps
from services.registry import store as registry
from shared.config.settings import Settings
from shared.contracts.evacuate import GpuEvacuated
from shared.contracts.forge import AdapterForged
from shared.contracts.harvest import KarmaHarvested
from shared.contracts.intent import TrainingIntent
from shared.contracts.message import Fact
from shared.contracts.verify import AdapterBanished, Champion
from shared.messaging.dead_letters import record_dead_letter
from shared.ritual import lease, ledger
from shared.ritual.errors import record_error
from shared.storage.artifacts import Artifacts
from shared.storage.postgres import Pool, open_pool
from tests.support.adapters import save_adapter
from tests.support.bundles import frozen
from tests.support.consents import Tell, crypt, history, told
from tests.support.escapes import ALL, MARKS, PAYLOADS, raw_controls
from tests.support.facts import TRAINING
from tests.unit.cli.rows import COUNTS, VERDICT
from tests.unit.cli.test_manifest import values

__all__ = ["crypt", "history", "told"]  # the fixtures

pytestmark = pytest.mark.timeout(180)

ANVIL = "anvil0"
DIGEST = f"sha256:{'ab' * 32}"
FILE_NAME = "".join(PAYLOADS[name] for name in ("colour", "clipboard", "right to left", "carriage return"))
SHOWN = set(MARKS)


async def record(pool: Pool, *facts: Fact) -> None:
    for fact in facts:
        async with pool.acquire() as conn, conn.transaction():
            assert await ledger.record_fact(conn, fact, "orchestrator", datetime.now(UTC))


async def open_ritual(pool: Pool, name: str) -> UUID:
    intent = TrainingIntent(persona="scribe", why=ALL, query=ALL, requested_by=ALL[:200], kinds=(ALL,))
    async with pool.acquire() as conn, conn.transaction():
        ritual = await ledger.open_ritual(conn, intent, name, None)
    named: dict[str, Any] = {"ritual": ritual, "persona": "scribe"}
    await record(pool, KarmaHarvested(**named, manifest=ALL, holdout=ALL, **{**COUNTS, "excluded": {ALL: 3}}))
    return ritual


async def banished(pool: Pool) -> UUID:
    """A ritual that had the anvil, whose every fact is hostile."""
    ritual = await open_ritual(pool, "banished")
    named: dict[str, Any] = {"ritual": ritual, "persona": "scribe"}
    async with pool.acquire() as conn, conn.transaction():
        fence = await lease.acquire(conn, ANVIL, ritual, 1, 60)
        assert fence
        await orchestrator.insert_handover(conn, ANVIL, fence, ritual, 1)
        await orchestrator.record_suspended(conn, ANVIL, fence, 3, 30.0)
        await lease.release(conn, ANVIL, fence)
    await orchestrator.record_probes_before(pool, ANVIL, fence, {ALL: {ALL: ALL}})
    await orchestrator.record_probes_after(pool, ANVIL, fence, ALL, {ALL: f"{ALL} differs"})
    async with Steps(pool, ANVIL, fence).step(Step.DRAIN, ALL) as detail:
        detail[ALL] = ALL
    judged = {"adapter": ALL, "decision": "banish", "reasons": (ALL,), "results": ALL}
    judged |= {"evidence": ALL, "evidence_digest": ALL}
    await record(
        pool,
        GpuEvacuated(**named, anvil=ANVIL, fence=fence, memory_before=3, memory_after=0, device=ALL),
        AdapterForged(
            **named, adapter=ALL, path=ALL, base=ALL, recipe="default", fence=fence, training=TRAINING, isolation=(ALL,)
        ),
        AdapterBanished(
            **named, **judged, verdict=VERDICT.model_copy(update={"decision": "banish", "reasons": (ALL,)})
        ),
    )
    async with pool.acquire() as conn, conn.transaction():
        await orchestrator.record_released(conn, ANVIL, fence)
        await orchestrator.record_restored(conn, ANVIL, 3)
    return ritual


async def waiting(pool: Pool) -> UUID:
    """A ritual that waits for an anvil which is reclaimed and contained, and meets errors."""
    ritual = await open_ritual(pool, "waiting")
    row = await ledger.get_ritual(pool, ritual)
    assert row
    await record_error(pool, row, "orchestrator", ALL, 60)
    await orchestrator.record_reclaim(pool, ANVIL, ALL, 600, datetime.now(UTC))
    await pool.execute(
        "INSERT INTO decision (ritual, verdict, reason, measures) VALUES ($1, 'wait', $2, $3)", ritual, ALL, {ALL: ALL}
    )
    async with pool.acquire() as conn:
        await orchestrator.record_containment(conn, ANVIL, ALL, 2, until_accepted=False)
    return ritual


async def paused(pool: Pool) -> UUID:
    ritual = await open_ritual(pool, "paused")
    assert await ledger.request_pause(pool, ritual, ALL, datetime.now(UTC))
    return ritual


async def plant_karma(pool: Pool, ritual: UUID) -> None:
    messages = [{"role": "user", "content": ALL}, {"role": "assistant", "content": ALL}]
    await pool.execute(
        "INSERT INTO vectors.karma (id, persona, messages, status, consecrated_by, why, session, source, kind) "
        "VALUES (left($1, 200), 'scribe', $2, 'white_truth', $1, $1, left($1, 200), $1, $1)",
        ALL,
        messages,
    )
    await pool.execute("INSERT INTO revocation (karma, revoked_by, why) VALUES ($1, $1, $1)", ALL)
    await pool.execute("INSERT INTO exclusion VALUES ($1, $2, $2, $2)", ritual, ALL)
    await pool.execute("INSERT INTO contradiction VALUES ($1, $2, $2)", ritual, ALL)
    await pool.execute("INSERT INTO manifest VALUES ($1, $2, $2, 1, 1, 1)", DIGEST, ALL)
    await pool.execute("INSERT INTO manifest_record VALUES ($1, $2, 'train')", DIGEST, ALL)


def plant_files(home: Path, folder: Path) -> None:
    hostile = values(persona=ALL, holdout=ALL, excluded={ALL: 2})
    counts: Any = {ALL: 3}
    fields = ("sources", "consecrated_by", "kinds", "redacted", "quarantined", "prompts")
    counted = hostile.statistics.model_copy(update={**dict.fromkeys(fields, counts), "mark": {"created_at": ALL}})
    path = Artifacts(home).manifest(DIGEST) / "manifest.json"
    path.parent.mkdir(parents=True)
    path.write_text(hostile.model_copy(update={"statistics": counted}).model_dump_json(), encoding="utf-8")
    (home / ".soulforge-home").touch()
    (home / "lab" / "runs" / FILE_NAME).mkdir(parents=True)
    lines = [
        b"{",
        ALL.encode(),
        b'"\xff\x9b31m"',
        json.dumps({ALL: ALL}).encode(),
        json.dumps({"persona": ALL}).encode(),
    ]
    (folder / FILE_NAME).write_bytes(b"\n".join(lines))
    text = to_toml({"key": ALL}).removeprefix("key = ").strip()
    (folder / "hostile.toml").write_text(f"{text} = 1\n[runtime]\nlog_level = {text}\n", encoding="utf-8")
    (folder / "shown.toml").write_text(f'[docker]\nhost = "unix://{text[1:]}\n', encoding="utf-8")


@pytest.fixture
async def planted(
    settings: Settings,
    admin: Pool,
    history: dict[str, UUID],
    told: Tell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, str]:
    """Hostile text everywhere; what commands name: rituals and letters."""
    rows = await open_pool(settings.database_url("bootstrap"), "orchestrator")
    rituals = {"banished": await banished(rows), "waiting": await waiting(rows), "paused": await paused(rows)}
    await rows.close()
    await plant_karma(admin, rituals["banished"])
    async with admin.acquire() as conn, conn.transaction():
        await conn.execute("SET LOCAL search_path TO registry, public")
        await conn.execute("UPDATE version SET bundle = $1, base = $1", ALL)
        await registry.record_fault(conn, "scribe@r2", ALL)
        await conn.execute("SET LOCAL search_path TO forge, public")
        body = ALL.encode() + bytes(range(256))
        await record_dead_letter(conn, ALL, body, {ALL: ALL}, ALL, "SOUL/1")
        letter = await conn.fetchval("SELECT max(id) FROM dead_letter")
    plant_files(tmp_path / "home", tmp_path)
    answered(monkeypatch)
    replaced = Champion(version=ALL, adapter=ALL, serves=False, obstacle=ALL)
    bundle = frozen(Artifacts(tmp_path / "copy"), save_adapter(tmp_path / "adapter", 0.1), champion=replaced)
    named = {"letter": f"forge/{letter}", "bundle": str(bundle)}
    return {**{name: str(ritual) for name, ritual in rituals.items()}, **named}


def answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hostile answers of a model, of the harvester, of an engine, of a database; and of a part that does not start."""

    async def answer(*_: object) -> str:
        return ALL

    async def ask_model(*_: object) -> Answered:
        return Answered(*[ALL] * 5)

    async def refuse(*_: object) -> IntentResult:
        return IntentResult(None, False, ALL)

    async def answer_lines(*_: object) -> list[str]:
        return [ALL]

    def fail(_: Settings, announce: Callable[[str], None]) -> int:
        announce(ALL)
        raise PartError(ALL)

    monkeypatch.setattr(ask, "answer", answer)
    monkeypatch.setattr(ask, "ask_model", ask_model)
    monkeypatch.setattr(intend, "request_ritual", refuse)
    monkeypatch.setattr(runes, "create_containers", answer_lines)
    monkeypatch.setattr(bootstrap, "prepare", answer_lines)
    monkeypatch.setattr(karma, "REVOKED_WITHIN_S", 0.1)
    for name in ("run", "start_detached", "stop"):
        monkeypatch.setattr(stack, name, fail)


#: Command -> the words of each of its runs, and whether that run shows every payload whole, or only parts of some.
RUNS: dict[str, list[tuple[list[str], set[str]]]] = {
    "up": [([], SHOWN), (["--detach"], SHOWN)],
    "down": [([], SHOWN)],
    "status": [([], SHOWN)],
    "doctor": [([], set())],
    "migrate": [([], SHOWN)],
    "config check": [(["hostile.toml"], SHOWN), ([ALL], set()), (["shown.toml"], set())],
    "config show": [(["hostile.toml"], SHOWN), (["shown.toml"], SHOWN), (["shown.toml", "--json"], SHOWN)],
    "config example": [([ALL], SHOWN)],
    "runes create": [([], SHOWN)],
    "karma import": [([FILE_NAME, "--errors", "errors"], set()), ([ALL], SHOWN)],
    "karma stats": [([], set())],
    "karma revoke": [([ALL[:200], "--why", ALL, "--by", ALL[:200]], set()), ([ALL], set())],
    "karma consecrate": [
        ([ALL[:200], "--by", ALL[:200]], set()),
        ([f"unknown {ALL}"[:200], "--by", "me"], set()),
        (["--source", ALL, "--persona", ALL, "--by", "me"], set()),
    ],
    "karma reject": [([ALL[:200], "--why", ALL, "--by", ALL[:200]], set())],
    "karma correct": [([ALL[:200], FILE_NAME, "--by", ALL[:200]], set())],
    "karma explain": [
        ([ALL[:200]], SHOWN),
        ([ALL[:200], "--json"], SHOWN),
        ([f"unknown {ALL}"[:200]], set()),
    ],
    "recall": [([ALL], SHOWN), ([ALL, "--json"], SHOWN), ([f"unknown {ALL}"], SHOWN)],
    "manifest list": [([], SHOWN)],
    "manifest show": [([], SHOWN), (["--json", "--picture", "picture.svg"], SHOWN), ([ALL], set())],
    "intend": [(["scribe", "--why", ALL], SHOWN), ([ALL], set())],
    "cancel": [([ALL], SHOWN), (["{banished}", "--why", ALL], set())],
    "pause": [([ALL], SHOWN), (["{waiting}", "--why", ALL], set()), (["{banished}"], set())],
    "resume": [([ALL], SHOWN), (["{paused}", "--why", ALL], set()), (["{waiting}"], set())],
    "watch": [
        (["{banished}"], SHOWN),
        (["{waiting}", "--timeout", "1"], SHOWN),
        (["{paused}", "--timeout", "1"], SHOWN),
    ],
    "rituals": [([], SHOWN)],
    "show": [
        (["{banished}"], SHOWN),
        (["{banished}", "--json"], SHOWN),
        (["{waiting}"], SHOWN),
        (["{waiting}", "--json"], SHOWN),
        (["{paused}"], SHOWN),
        ([ALL], SHOWN),
    ],
    "report": [
        (["{banished}"], set()),
        (["{waiting}", "--to", FILE_NAME + "d"], set()),
        (["{paused}", "--to", FILE_NAME], set()),
        ([ALL, "--holdout-texts"], SHOWN),
    ],
    "reclaim": [(["--why", ALL, "--no-wait"], set()), ([ALL], SHOWN), (["--for", ALL], SHOWN)],
    "accept": [([], SHOWN), ([ALL], SHOWN)],
    "adapters": [([], SHOWN)],
    "adapters promote": [
        ([f"scribe@{ALL}"[:100]], set()),
        (["scribe@r1", "--by", ALL[:200], "--why", ALL], set()),
        ([ALL], set()),
    ],
    "adapters reject": [(["scribe@r1", "--why", ALL], set()), (["scribe@r1"], set())],
    "adapters pin": [
        (["scribe@r2", "--why", ALL, "--by", ALL[:200]], set()),
        (["scribe@r2", "--champion", ALL[:100]], set()),
    ],
    "adapters unpin": [(["scribe", "--why", ALL], set()), (["scribe"], set())],
    "adapters rollback": [(["scribe", "--why", ALL], set()), (["scribe"], set())],
    "adapters retire": [(["scribe@r1", "--why", ALL], set()), ([ALL], set())],
    "adapters history": [(["scribe"], SHOWN), ([ALL], SHOWN)],
    "approve": [(["scribe"], set()), ([ALL], SHOWN)],
    "reject": [(["scribe"], set()), ([ALL], SHOWN)],
    "ask": [(["scribe", ALL], SHOWN)],
    "compare": [
        (["scribe", "r1", "base", ALL], SHOWN),
        (["scribe", "r2", "base", ALL, "--json"], SHOWN),
        (["scribe", ALL, "base", ALL], SHOWN),
    ],
    "keys add": [(["ada", "--scope", "chat"], set()), ([ALL, "--scope", "chat"], set())],
    "keys list": [([], set())],
    "keys revoke": [(["ada"], set()), ([ALL], SHOWN)],
    "dead-letters list": [([], SHOWN)],
    "dead-letters show": [(["{letter}"], SHOWN), ([ALL], SHOWN)],
    "dead-letters replay": [(["{letter}"], set()), ([ALL], SHOWN)],
    "verify": [
        ([ALL], SHOWN),
        (["{bundle}"], SHOWN),
        (["{bundle}", "--json"], SHOWN),
        (["{bundle}", "--texts"], set()),
    ],
    "prune": [(["--dry-run"], set())],
}


def commands() -> Iterator[str]:
    """Every command, by the words that call it."""
    root: Any = typer.main.get_command(app)
    for name, command in root.commands.items():
        if not hasattr(command, "commands") or command.invoke_without_command:
            yield name
        yield from (f"{name} {inner}" for inner in getattr(command, "commands", ()))


def test_every_command_is_tried() -> None:
    assert RUNS.keys() == set(commands())


async def test_no_command_prints_a_control_character_of_foreign_text(
    planted: dict[str, str], told: Tell, tmp_path: Path
) -> None:
    found: dict[str, list[str]] = {}
    hidden: dict[str, set[str]] = {}
    for command, runs in RUNS.items():
        for place, (words, expected) in enumerate(runs):
            code, shown, error = await told(
                *command.split(), *(word.format(**planted) if word[:1] == "{" else word for word in words)
            )
            run = f"{command} {place}: {code}"
            assert code != 70, f"{run}: {error}"
            if raw := raw_controls(shown + error):
                found[run] = raw
            if missing := {mark for mark in expected if mark not in shown + error}:
                hidden[run] = missing

    assert found == {}
    assert hidden == {}, "what is not shown cannot be tried"
    reports = list(tmp_path.glob(f"report-{planted['banished'][:8]}/*"))
    assert len(reports) > 2
    written = [tmp_path / "errors", tmp_path / "picture.svg", *reports]
    assert raw_controls("".join(path.read_text("utf-8") for path in written)) == []
