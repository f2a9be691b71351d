"""Harvests of a test: the real thing on a real database, without a service around it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from services.harvester import store
from services.harvester.harvest import harvest
from services.harvester.ingest.karma import store_records
from services.harvester.manifest.compile import Compiled
from services.harvester.policy import HarvestPolicy, LikenessPolicy
from services.harvester.refusal import shortfall
from services.harvester.request import HarvestRequest
from services.harvester.settings import HarvesterSettings
from services.harvester.split import Split, lineage_place, split_of
from shared.config.settings import PROJECT
from shared.contracts.intent import TrainingIntent
from shared.contracts.karma import ChatMessage, KarmaRecord, Outcome, Status
from shared.storage.artifacts import Artifacts
from shared.storage.postgres import Pool

EXAMPLES = PROJECT / "examples" / "karma"
SUITES = PROJECT / "services" / "verifier" / "suites"
_last_harvest: dict[str, UUID] = {}  # persona -> the ritual under which its last harvest was recorded


def example(persona: str) -> list[KarmaRecord]:
    return [KarmaRecord.model_validate_json(line) for line in (EXAMPLES / f"{persona}.jsonl").read_text().splitlines()]


def record(id: str, session: str, question: str, answer: str, **values: Any) -> KarmaRecord:
    """A white truth of the scribe, said on the first of May 2026 unless told otherwise."""
    given: dict[str, Any] = {
        "persona": "scribe",
        "messages": (
            ChatMessage(role="system", content="You are the scribe. Be brief."),
            ChatMessage(role="user", content=question),
            ChatMessage(role="assistant", content=answer),
        ),
        "status": Status.WHITE_TRUTH,
        "consecrated_by": "ida",
        "outcome": Outcome(),
        "created_at": "2026-05-01T08:00:00Z",
    }
    return KarmaRecord.model_validate({"id": id, "session": session, **given, **values})


async def remember(pool: Pool, records: Iterable[KarmaRecord]) -> None:
    async with pool.acquire() as conn, conn.transaction():
        await store_records(conn, list(records))


async def harvested(
    pool: Pool,
    home: Path,
    persona: str = "scribe",
    policy: HarvestPolicy | None = None,
    wanted: list[str] | None = None,
    **asked: Any,
) -> tuple[Compiled, str | None]:
    """What a harvest of this persona gives, and why it is refused; `asked` are fields of the intent.

    Its exclusions are recorded under a ritual of their own, and its holdout is sealed.
    """
    policy = policy or HarvestPolicy(likeness=LikenessPolicy(by_meaning=False))
    request = HarvestRequest(
        persona,
        TrainingIntent(persona=persona, **asked),
        policy,
        SUITES,
        wanted,
    )
    ritual = _last_harvest[persona] = uuid4()
    async with pool.acquire() as conn:
        await conn.execute("DISCARD TEMP")
        compiled = await harvest(conn, request, Artifacts(home), lambda *_: None)
        missing = shortfall(compiled, HarvesterSettings(min_train=1, min_held_out=1, **dict(policy)))
        async with conn.transaction():
            await store.record_exclusions(conn, ritual)
            if missing is None:
                await store.seal_holdout(conn, persona)
    return compiled, missing


async def reasons(pool: Pool, persona: str = "scribe") -> dict[str, str]:
    """id -> why the persona's last harvest left it out."""
    return dict(await pool.fetch("SELECT karma, reason FROM exclusion WHERE ritual = $1", _last_harvest[persona]))


def rows(folder: Path, file: str) -> list[dict[str, Any]]:
    """Every row of one kind of file below a manifest or holdout directory."""
    return [
        json.loads(line) for shard in sorted(folder.glob(f"{file}/*.jsonl")) for line in shard.read_text().splitlines()
    ]


def open_rows(home: Path, compiled: Compiled, file: str = "train") -> list[dict[str, Any]]:
    return rows(Artifacts(home).manifest(compiled.manifest), file)


def sealed_rows(home: Path, compiled: Compiled) -> list[dict[str, Any]]:
    return rows(Artifacts(home).holdout(compiled.holdout), "holdout")


def side_of_session(session: str, persona: str = "scribe") -> Split:
    """The side on which the default policy puts a session that nothing joins to another."""
    policy = HarvestPolicy().split
    return split_of(lineage_place(policy.key, persona, session), policy.holdout, policy.dev)


def session_on(side: Split) -> str:
    """The name of a session of the scribe on this side."""
    return next(name for name in map("session-{}".format, range(1000)) if side_of_session(name) is side)
