"""Register every verified adapter as a version in the Crypt, and make the engine serve the aliased versions."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import structlog
from pydantic import BaseModel, FailFast

from services.registry import decisions, outcomes, store
from services.registry.bundle import BundleError, Sidecar, freeze, read_replaced, sweep, version_name
from services.registry.recall import act_on_recalls
from services.registry.serving import Engine, Loader
from services.registry.store import Version
from services.registry.views import list_served
from shared.contracts.evacuate import GpuRestored
from shared.contracts.forge import AdapterFailed, AdapterForged
from shared.contracts.harvest import KarmaHarvested, SystemPrompt
from shared.contracts.probe import Probe
from shared.contracts.registry import AdapterRegistered
from shared.contracts.ritual import State
from shared.contracts.verify import LARGEST_RESULTS, AdapterVerified
from shared.drivers.inference.open import open_rune
from shared.drivers.inference.port import InferenceError
from shared.ritual import lease, ledger
from shared.runtime.advance import advance_each, describe, is_shared
from shared.storage.artifacts import Artifacts
from shared.storage.base_model import Base, BaseError, Bases
from shared.storage.untrusted import OutputError, read_model

if TYPE_CHECKING:
    from services.registry.binding import Binding
    from services.registry.settings import RegistrySettings
    from shared.ritual.ledger import Ritual
    from shared.runtime.context import ServiceContext

log = structlog.get_logger()
SOON_S = 0.5


class ServingError(Exception):
    """A persona is not served as its owner wants; the message names the version, why, and what to do."""


class _Probed(BaseModel):
    """The part of the evaluator's results that goes into the bundle."""

    probes: Annotated[tuple[Probe, ...], FailFast()]


class Served(NamedTuple):
    """A base that runes serve, and those of them that answer."""

    base: Base
    engines: list[Engine]


class Registry:
    """Registers, loads and awakens versions."""

    def __init__(self, context: ServiceContext, settings: RegistrySettings) -> None:
        self._context, self._settings = context, settings
        self._artifacts = Artifacts(context.settings.home)
        self._bases = Bases(context.settings, context.configuration)
        self._loader = Loader(context)

    async def start(self) -> None:
        """Remove what a registry that was killed left in the Lab."""
        await asyncio.to_thread(sweep, self._artifacts)

    async def reconcile(self) -> float | None:
        """One pass; sooner than usual comes the next one while an engine starts, whose adapters inference waits for."""
        context = self._context
        await advance_each(context, await ledger.list_rituals(context.pool, State.VERIFIED), self._register)
        # Recalls come before serving: a version that they withdraw must not be loaded or awakened.
        await act_on_recalls(context.pool, self._settings.on_recall)
        await self._loader.check_crypt()
        complete = await self._serve()
        await outcomes.settle_approved(context)
        waiting = await ledger.list_rituals(context.pool, State.AWAITING_APPROVAL)
        await advance_each(context, waiting, partial(outcomes.end_waiting, context))
        async with context.pool.acquire() as conn, conn.transaction():
            await store.announce_decisions(conn)
        return None if complete else SOON_S

    async def check_serving(self) -> None:
        """Raise ServingError while a persona is not served by the version of its alias."""
        if troubles := [served.trouble for served in await list_served(self._context.pool) if served.trouble]:
            raise ServingError("; ".join(troubles))

    async def _register(self, ritual: Ritual) -> None:
        if ritual.cancel_requested_at:
            await self._context.record_cancelled(ritual)
            return
        started_at, pool = datetime.now(UTC), self._context.pool
        harvested = await ledger.require_fact(pool, ritual.id, KarmaHarvested)
        forged = await ledger.require_fact(pool, ritual.id, AdapterForged)
        verified = await ledger.require_fact(pool, ritual.id, AdapterVerified)
        if (base := await self._bases.find(forged.base)) is None:
            reason = (
                f"no rune of {self._context.configuration.forge} serves the base that it was trained on ({forged.base})"
            )
            await self._context.record(AdapterFailed(**ritual.key, reason=reason), started_at)
            return
        sidecar = Sidecar(
            persona=ritual.persona,
            version=version_name(ritual.persona, forged.adapter),
            adapter=forged.adapter,
            base=forged.base,
            base_name=base.name,
            manifest=harvested.manifest,
            holdout=harvested.holdout,
            recipe=forged.recipe,
            ritual=str(ritual.id),
            evidence=verified.evidence_digest,
            verdict=verified.verdict,
            replaces=await asyncio.to_thread(self._replaced, harvested.manifest),
        )
        results, evidence = Path(verified.results), Path(verified.evidence)
        try:
            probed = await asyncio.to_thread(read_model, results.parent, results.name, _Probed, LARGEST_RESULTS)
            bundle = await asyncio.to_thread(
                freeze, self._artifacts, Path(forged.path), evidence, sidecar, probed.probes
            )
        except (OutputError, BundleError) as error:
            await self._context.record(AdapterFailed(**ritual.key, reason=str(error)), started_at)
            return
        version = Version(sidecar.version, ritual.persona, forged.adapter, forged.base, ritual.id, str(bundle))
        async with pool.acquire() as conn, conn.transaction():
            await store.insert_version(conn, version)
            await store.clear_fault(conn, version.name)
        registered = AdapterRegistered(
            **ritual.key, adapter=version.adapter, version=version.name, bundle=version.bundle
        )
        await self._context.record(registered, started_at)

    def _replaced(self, manifest: str) -> tuple[SystemPrompt, ...] | None:
        try:
            return read_replaced(self._artifacts.manifest(manifest))
        except OutputError as error:
            log.warning("which system prompts the adapter replaces is unknown", manifest=manifest, error=str(error))
            return None

    async def _serve(self) -> bool:
        """Serve every base; one that is missing, or a rune that fails, delays no other. True when all engines answer.

        Runes on an anvil that a ritual holds are left alone.
        """
        context = self._context
        served: dict[str, Served] = {}
        errors: dict[str, Exception] = {}
        complete = True
        for name, runes in context.configuration.serving_runes().items():
            try:
                base = await self._bases.get(name)
            except Exception as error:
                log.error("base not served", base=name, error=describe(error))
                errors[name] = error
                continue
            free = [rune for rune in runes if not await self._leave_held(rune)]
            engines = [engine for rune in free if (engine := await self._open(rune, base))]
            await self._loader.load_desired(engines)
            served[base.digest] = Served(base, engines)
            complete = complete and len(engines) == len(free)
        if not errors:
            await self._loader.record_unserved_bases(served)
        registered = await ledger.list_rituals(context.pool, State.REGISTERED)
        # A pass that only waits for an engine is no success: the version may have ended it.
        await advance_each(context, registered, partial(self._awaken, served, errors), clear=False)
        return complete

    async def _leave_held(self, rune: str) -> bool:
        """Whether a ritual holds the anvil of a rune; what that had loaded counts no longer then."""
        context = self._context
        if await lease.get_lease(context.pool, context.configuration.anvil_of(rune)) is None:
            return False
        await store.forget_loaded(context.pool, rune)
        return True

    async def _open(self, rune: str, base: Base) -> Engine | None:
        """The engine of a rune with what it has loaded; None where it does not answer."""
        context = self._context
        engine = Engine(rune, open_rune(context.configuration, context.settings, rune), base)
        try:
            if await engine.inference.healthy():
                await self._loader.observe(engine)
                return engine
            await store.forget_loaded(context.pool, rune)
        except Exception as error:
            log.error("rune not served", rune=rune, error=describe(error))
        return None

    async def _awaken(self, served: dict[str, Served], errors: dict[str, Exception], ritual: Ritual) -> None:
        """Load the version of a registered ritual, prove it, and do with it what the persona's policy is.

        `served` are the bases by digest; `errors` by name, for a base that cannot be read has no digest.
        """
        if ritual.cancel_requested_at:
            await self._context.record_cancelled(ritual)
            return
        started_at, pool = datetime.now(UTC), self._context.pool
        registered = await ledger.require_fact(pool, ritual.id, AdapterRegistered)
        version = await store.get_version(pool, registered.version)
        async with pool.acquire() as conn:
            standing = await decisions.get_standing(conn, registered.version)
        if version is None or standing is None:
            raise RuntimeError(f"version {registered.version} is not in the registry")
        if standing.barred:
            await outcomes.settle(self._context, ritual, version, 0, started_at)
            return
        if (found := served.get(version.base)) is None:
            _check_base(version, errors.get(self._context.configuration.base_of(ritual.persona)))
            return
        for engine in found.engines:
            try:
                await self._loader.load(engine, version)
            except InferenceError as error:
                if await engine.inference.healthy():
                    raise
                log.warning("awakening postponed", rune=engine.rune, error=str(error))
                return
        # Inference must have been restored after this ritual's own GPU work.
        if found.engines and await ledger.get_fact(pool, ritual.id, GpuRestored):
            await self._prove(found.engines, ritual, version, started_at)

    async def _prove(self, engines: list[Engine], ritual: Ritual, version: Version, started_at: datetime) -> None:
        """Settle what becomes of a version that all of these engines answer with."""
        for engine in engines:
            if engine.loaded.get(version.name) is not None:
                continue
            try:
                binding = await self._loader.prove(engine, version)
            except InferenceError as error:
                if await engine.inference.healthy():
                    raise
                log.warning("awakening postponed", rune=engine.rune, error=str(error))
                return
            if not binding.proven:
                await self._record_unproven(ritual, version, binding)
                return
        await outcomes.settle(self._context, ritual, version, engines[0].loaded[version.name] or 0, started_at)

    async def _record_unproven(self, ritual: Ritual, version: Version, binding: Binding) -> None:
        failures = await store.record_failed_probe(self._context.pool, version.name)
        log.error("binding not proven", ritual=str(ritual.id), failures=failures, **binding.model_dump())
        if failures >= self._settings.probe_tries:
            reason = f"the loaded adapter is not shown to be the one answering: {binding}; the alias was not moved"
            await self._context.record(AdapterFailed(**ritual.key, reason=reason), ritual.entered_at)


def _check_base(version: Version, error: Exception | None) -> None:
    """Raise BaseError with the reason why a version's base is not served, unless any ritual would meet it."""
    if error is None:
        raise BaseError(f"no rune serves the base of {version.name} ({version.base})")
    if not is_shared(error):
        raise BaseError(describe(error)) from error
