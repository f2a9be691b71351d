"""Make every verified adapter a version in the Crypt, and make the engine serve what the aliases point to."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from services.registry import store
from services.registry.binding import Binding, prove
from services.registry.bundle import ADAPTER, BundleError, Sidecar, check, freeze, probes_of, version_name
from services.registry.recall import settle
from services.registry.settings import RegistrySettings
from shared.contracts.forge import AdapterFailed
from shared.contracts.registry import AdapterAwakened, AdapterRegistered
from shared.contracts.ritual import State
from shared.contracts.verify import Probe
from shared.drivers.inference.port import InferenceError
from shared.drivers.inference.vllm import Vllm
from shared.ritual import lease, ledger
from shared.storage.artifacts import Artifacts
from shared.storage.base_model import find_base

if TYPE_CHECKING:
    from shared.drivers.inference.port import Inference
    from shared.ritual.ledger import Ritual
    from shared.runtime.service import ServiceContext

log = structlog.get_logger()


class Registry:
    """Remembers which bindings it has seen proven since they were loaded, and how often one failed."""

    def __init__(self) -> None:
        self._proven: dict[str, Binding] = {}
        self._failures: dict[str, int] = {}

    async def reconcile(self, context: ServiceContext) -> None:
        for ritual in await ledger.waiting(context.pool, State.VERIFIED):
            await _register(context, ritual)
        # Recalls come before serving: nothing that they withdraw is to be loaded or awakened.
        await settle(context)
        if await lease.held(context.pool, context.configuration.forge) is None:
            await self._serve(context)

    async def _serve(self, context: ServiceContext) -> None:
        inference = Vllm(context.configuration.rune_url(context.settings), inside=True)
        if not await inference.healthy():
            return
        loaded = await inference.models()
        for version in await store.wanted(context.pool):
            if version["name"] not in loaded:
                self._proven.pop(version["name"], None)
                await self._load(context, inference, version)
        for ritual in await ledger.waiting(context.pool, State.REGISTERED):
            await self._awaken(context, inference, ritual)

    async def _load(self, context: ServiceContext, inference: Inference, version: dict[str, Any]) -> None:
        bundle = Path(version["bundle"])
        try:
            check(bundle, version["adapter"])
            await inference.load(version["name"], bundle / ADAPTER)
            binding = await _prove(context, inference, version)
        except (BundleError, InferenceError) as error:
            log.error("adapter not loaded", version=version["name"], error=str(error))
            return
        if binding.proven:
            self._proven[version["name"]] = binding
        log.info("adapter loaded", version=version["name"], **binding.model_dump(), proven=binding.proven)

    async def _awaken(self, context: ServiceContext, inference: Inference, ritual: Ritual) -> None:
        if ritual.cancel_requested_at:
            await context.record_cancelled(ritual)
            return
        # Inference must have come back after this ritual's own GPU work.
        if await ledger.fact_body(context.pool, ritual.id, "gpu.restored") is None:
            return
        started_at = datetime.now(UTC)
        registered = await ledger.fact_body(context.pool, ritual.id, "adapter.registered")
        version = registered and await store.version_of(context.pool, registered["version"])
        if not version:
            raise RuntimeError(f"ritual {ritual.id} is registered without a version")
        try:
            binding = self._proven.get(version["name"]) or await _prove(context, inference, version)
        except InferenceError as error:
            log.warning("awakening postponed", ritual=str(ritual.id), error=str(error))
            return
        if not binding.proven:
            await self._unproven(context, ritual, binding)
            return
        await _move_alias(context, ritual, version, binding, started_at)

    async def _unproven(self, context: ServiceContext, ritual: Ritual, binding: Binding) -> None:
        failures = self._failures[str(ritual.id)] = self._failures.get(str(ritual.id), 0) + 1
        log.error("binding not proven", ritual=str(ritual.id), failures=failures, **binding.model_dump())
        if failures >= RegistrySettings().probe_tries:
            reason = (
                f"the loaded adapter is not the one answering: {binding.equal} of {binding.asked} probes equal the "
                f"evaluator's answers, {binding.different} differ from the base; the alias was not moved"
            )
            failed = AdapterFailed(**ritual.key, reason=reason)
            await context.record(failed, ritual.entered_at)


async def _register(context: ServiceContext, ritual: Ritual) -> None:
    if ritual.cancel_requested_at:
        await context.record_cancelled(ritual)
        return
    started_at = datetime.now(UTC)
    facts = [
        await ledger.fact_body(context.pool, ritual.id, name)
        for name in ("karma.harvested", "adapter.forged", "adapter.verified")
    ]
    harvested, forged, verified = facts
    if not harvested or not forged or not verified:
        raise RuntimeError(f"ritual {ritual.id} is verified without its facts")
    name = version_name(ritual.persona, forged["adapter"])
    sidecar = Sidecar(
        persona=ritual.persona,
        version=name,
        adapter=forged["adapter"],
        base=forged["base"],
        base_name=find_base(context.settings).name,
        manifest=harvested["manifest"],
        holdout=harvested["holdout"],
        recipe=forged["recipe"],
        ritual=str(ritual.id),
        verdict=verified["verdict"],
    )
    try:
        bundle = freeze(
            Artifacts(context.settings.home), Path(forged["path"]), sidecar, _probes(Path(verified["results"]))
        )
    except BundleError as error:
        failed = AdapterFailed(**ritual.key, reason=str(error))
        await context.record(failed, started_at)
        return
    async with context.pool.acquire() as conn, conn.transaction():
        await store.keep_version(conn, name, ritual.persona, forged["adapter"], forged["base"], ritual.id, str(bundle))
    fact = AdapterRegistered(
        **ritual.key,
        adapter=forged["adapter"],
        version=name,
        bundle=str(bundle),
    )
    await context.record(fact, started_at)


def _probes(results: Path) -> tuple[Probe, ...]:
    return tuple(Probe.model_validate(probe) for probe in json.loads(results.read_text(encoding="utf-8"))["probes"])


async def _prove(context: ServiceContext, inference: Inference, version: dict[str, Any]) -> Binding:
    probes = probes_of(Path(version["bundle"]))
    base = find_base(context.settings).name
    return await prove(inference, version["name"], base, probes, RegistrySettings().probe_tokens)


async def _move_alias(
    context: ServiceContext, ritual: Ritual, version: dict[str, Any], binding: Binding, started_at: datetime
) -> None:
    async with context.pool.acquire() as conn, conn.transaction():
        fact = AdapterAwakened(
            **ritual.key,
            adapter=version["adapter"],
            version=version["name"],
            alias=ritual.persona,
            previous=await store.alias_of(conn, ritual.persona),
            probes=binding.asked,
        )
        if await ledger.record_fact(conn, fact, context.service, started_at):
            await store.move_alias(conn, ritual.persona, version["name"], ritual.id)
            log.info("awakened", version=version["name"], alias=ritual.persona)
