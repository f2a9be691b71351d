"""Register every verified adapter as a version in the Crypt, and make the engine serve the aliased versions."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import structlog
from pydantic import BaseModel, FailFast

from services.registry import store
from services.registry.bundle import BundleError, Sidecar, freeze, sweep, version_name
from services.registry.recall import act_on_recalls
from services.registry.serving import Loader
from services.registry.store import Version
from services.registry.views import list_served
from shared.contracts.evacuate import GpuRestored
from shared.contracts.forge import AdapterFailed, AdapterForged
from shared.contracts.harvest import KarmaHarvested
from shared.contracts.registry import AdapterAwakened, AdapterRegistered
from shared.contracts.ritual import State
from shared.contracts.verify import LARGEST_RESULTS, AdapterVerified, Probe
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
    from shared.drivers.inference.port import Serving
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
    """A base that a rune serves, and the rune where it answers."""

    base: Base
    inference: Serving | None


class Registry:
    """Registers, loads and awakens versions."""

    def __init__(self, context: ServiceContext, settings: RegistrySettings) -> None:
        self._context, self._settings = context, settings
        self._artifacts = Artifacts(context.settings.home)
        self._bases = Bases(context.settings, context.configuration)
        self._loader = Loader(context, settings)

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
        if await lease.get_lease(context.pool, context.configuration.forge) is None:
            return None if await self._serve() else SOON_S
        return None

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
            verdict=verified.verdict,
        )
        results = Path(verified.results)
        try:
            probed = await asyncio.to_thread(read_model, results.parent, results.name, _Probed, LARGEST_RESULTS)
            bundle = await asyncio.to_thread(freeze, self._artifacts, Path(forged.path), sidecar, probed.probes)
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

    async def _serve(self) -> bool:
        """Serve every base; one that is missing, or whose rune fails, delays no other. True when all engines answer."""
        context = self._context
        served: dict[str, Served] = {}
        errors: dict[str, Exception] = {}
        runes = context.configuration.serving_runes()
        for name, rune in runes.items():
            inference = open_rune(context.configuration, context.settings, rune)
            try:
                base = await self._bases.get(name)
                healthy = await inference.healthy()
                served[base.digest] = Served(base, inference if healthy else None)
                if healthy:
                    await self._loader.load_served(inference, base)
            except Exception as error:
                log.error("base not served", base=name, rune=rune, error=describe(error))
                errors[name] = error
        if len(served) == len(runes):
            await self._loader.record_unserved_bases(served)
        registered = await ledger.list_rituals(context.pool, State.REGISTERED)
        # A pass that only waits for an engine is no success: the version may have ended it.
        await advance_each(context, registered, partial(self._awaken, served, errors), clear=False)
        return all(found.inference for found in served.values())

    async def _awaken(self, served: dict[str, Served], errors: dict[str, Exception], ritual: Ritual) -> None:
        """Load the version of a registered ritual and move its alias.

        `served` are the bases by digest; `errors` by name, for a base that cannot be read has no digest.
        """
        if ritual.cancel_requested_at:
            await self._context.record_cancelled(ritual)
            return
        started_at, pool = datetime.now(UTC), self._context.pool
        registered = await ledger.require_fact(pool, ritual.id, AdapterRegistered)
        version = await store.get_version(pool, registered.version)
        if version is None:
            raise RuntimeError(f"version {registered.version} is not in the registry")
        if (found := served.get(version.base)) is None:
            _check_base(version, errors.get(self._context.configuration.base_of(ritual.persona)))
            return
        base, inference = found
        if inference is None:
            return
        if not await store.may_serve(pool, version.name):
            raise BundleError(f"{version.name} is withdrawn, or the recall of its karma is not acted on yet")
        try:
            if version.name not in await inference.models():
                await self._loader.load(inference, base, version)
            # Inference must have been restored after this ritual's own GPU work.
            if await ledger.get_fact(pool, ritual.id, GpuRestored) is None:
                return
            binding = await self._loader.prove(inference, base, version)
        except InferenceError as error:
            if await inference.healthy():
                raise
            log.warning("awakening postponed", error=str(error))
            return
        if binding.proven:
            await self._move_alias(ritual, version, binding, started_at)
        else:
            await self._record_unproven(ritual, version, binding)

    async def _record_unproven(self, ritual: Ritual, version: Version, binding: Binding) -> None:
        failures = await store.record_failed_probe(self._context.pool, version.name)
        log.error("binding not proven", ritual=str(ritual.id), failures=failures, **binding.model_dump())
        if failures >= self._settings.probe_tries:
            reason = (
                f"the loaded adapter is not the one answering: {binding.equal} of {binding.asked} probes equal the "
                f"evaluator's answers, {binding.different} differ from the base; the alias was not moved"
            )
            await self._context.record(AdapterFailed(**ritual.key, reason=reason), ritual.entered_at)

    async def _move_alias(self, ritual: Ritual, version: Version, binding: Binding, started_at: datetime) -> None:
        async with self._context.pool.acquire() as conn, conn.transaction():
            awakened = AdapterAwakened(
                **ritual.key,
                adapter=version.adapter,
                version=version.name,
                alias=ritual.persona,
                previous=await store.get_alias(conn, ritual.persona),
                probes=binding.asked,
            )
            if await ledger.record_fact(conn, awakened, self._context.service, started_at):
                await store.move_alias(conn, ritual.persona, version.name, ritual.id)
                log.info("awakened", version=version.name, alias=ritual.persona)


def _check_base(version: Version, error: Exception | None) -> None:
    """Raise BaseError with the reason why a version's base is not served, unless any ritual would meet it."""
    if error is None:
        raise BaseError(f"no rune serves the base of {version.name} ({version.base})")
    if not is_shared(error):
        raise BaseError(describe(error)) from error
