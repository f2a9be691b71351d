"""A verified adapter is frozen beside the event loop, and what a killed registry left of a bundle is removed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.registry import bundle, reconcile, store
from services.registry.app import build
from services.registry.reconcile import Registry
from services.registry.settings import RegistrySettings
from shared.contracts.forge import AdapterForged
from shared.contracts.verify import AdapterVerified
from shared.ritual import ledger
from shared.storage.artifacts import Artifacts
from shared.storage.digests import digest_file, digest_tree
from shared.storage.postgres import Pool
from shared.storage.untrusted import read_model
from tests.support.adapters import save_adapter
from tests.support.bundles import write_evidence
from tests.support.consents import harvested
from tests.support.crypts import TwoBases, crypt, two_bases
from tests.support.facts import TRAINING
from tests.support.probes import probe
from tests.unit.cli.rows import VERDICT

__all__ = ["crypt", "two_bases"]  # the fixtures


async def add_verified(two_bases: TwoBases) -> str:
    """A ritual whose adapter has passed; returns the digest of that."""
    pool, run = two_bases.context.pool, two_bases.folder / "run"
    run.mkdir()
    path = save_adapter(run / "adapter", 0.1)
    results = run / "results.json"
    results.write_text(json.dumps({"probes": [probe("hi").model_dump()]}))
    ritual = await harvested(two_bases.harvester, "r", "m", "evacuated")
    made: dict[str, Any] = {"ritual": ritual, "persona": "scribe", "adapter": digest_tree(path)}
    forged = AdapterForged(
        **made, path=str(path), base=await two_bases.digest("large"), recipe="default", fence=1, training=TRAINING
    )
    evidence, _ = write_evidence(run, made["adapter"])
    judged = {"results": str(results), "evidence": str(evidence), "evidence_digest": digest_file(evidence)}
    verified = AdapterVerified(**made, decision="promote", reasons=(), verdict=VERDICT, **judged)
    async with pool.acquire() as conn, conn.transaction():
        for fact in (forged, verified):
            assert await ledger.record_fact(conn, fact, "test", datetime.now(UTC))
    return forged.adapter


async def test_an_adapter_is_read_and_frozen_beside_the_event_loop(
    two_bases: TwoBases, crypt: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = await add_verified(two_bases)
    seen: dict[str, threading.Thread] = {}

    def watch(work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            seen[work.__name__] = threading.current_thread()
            return work(*given)

        return run

    for work in (read_model, bundle.freeze):
        monkeypatch.setattr(reconcile, work.__name__, watch(work))

    await Registry(two_bases.context, RegistrySettings()).reconcile()

    version = await store.get_version(crypt, bundle.version_name("scribe", adapter))
    assert version and Path(version.bundle).is_dir()
    assert seen.keys() == {"read_model", "freeze"} and threading.main_thread() not in seen.values()


async def test_what_a_killed_registry_left_of_a_bundle_is_removed_at_its_start(two_bases: TwoBases) -> None:
    scratch = Artifacts(two_bases.context.settings.home).scratch()
    left, other = scratch / f"{bundle.SCRATCH}1", scratch / "harvest-1"
    for folder in (left, other):
        (folder / "files").mkdir(parents=True)
    service = build(two_bases.context)

    assert service.start
    await service.start()

    assert not left.exists() and other.is_dir()
