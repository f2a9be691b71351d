"""Load the versions that are to serve, and record why one cannot: then the version before serves in its place.

The alias stays where it was: a version whose bundle is repaired is found whole at the next try and serves again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from services.registry import store
from services.registry.binding import prove
from services.registry.bundle import ADAPTER, BundleError, check, read_probes
from shared.drivers.inference.port import InferenceError
from shared.ritual import lease
from shared.runtime.advance import describe, is_shared

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.registry.binding import Binding
    from services.registry.settings import RegistrySettings
    from services.registry.store import Version
    from shared.drivers.inference.port import Serving
    from shared.runtime.context import ServiceContext
    from shared.storage.base_model import Base

log = structlog.get_logger()
RETRY_S = 60.0
ENDED = 2  # loads in a row that ended the engine: once may be chance


class LoadError(Exception):
    """An engine that answered before does not load an adapter, or ends with it."""


class Loader:
    """Loads versions into engines; keeps the bindings that were proven since they were loaded."""

    def __init__(self, context: ServiceContext, settings: RegistrySettings) -> None:
        self._context, self._settings = context, settings
        self._proven: dict[str, Binding] = {}
        self._ended: Counter[str] = Counter()  # by version: loads in a row that ended the engine
        self._crypt_checked = False

    async def check_crypt(self) -> None:
        """Check the bundles of all versions that serve or may have to, once after the start."""
        if self._crypt_checked:
            return
        pool = self._context.pool
        for version in await store.list_kept(pool):
            try:
                await asyncio.to_thread(check, Path(version.bundle), version.adapter)
                await store.clear_fault(pool, version.name)
            except BundleError as error:
                await self.record_fault(version, error)
        self._crypt_checked = True

    async def load_served(self, inference: Serving, base: Base) -> None:
        """Load the versions of a base that are to serve, and try those with a fault again; one delays no other.

        One that ended the engine before is not tried again in this process: it would interrupt inference every time.
        """
        loaded = await inference.models()
        faulty = [
            version
            for version in await store.list_faulty(self._context.pool, RETRY_S)
            if self._ended[version.name] < ENDED
        ]
        missing = [version for version in await store.list_served(self._context.pool) if version.name not in loaded]
        for version in (*faulty, *missing):
            if version.base == base.digest and not await self._try(inference, base, version):
                return

    async def _try(self, inference: Serving, base: Base, version: Version) -> bool:
        """Load a version, or record its fault. False where the engine does not answer after that."""
        try:
            await self.load(inference, base, version)
        except Exception as error:
            if not await inference.healthy():
                await self._record_end(version, error)
                return False
            if is_shared(error):
                log.warning("loading postponed", version=version.name, error=describe(error))
                return True
            await self.record_fault(version, error)
        self._ended.pop(version.name, None)
        return True

    async def _record_end(self, version: Version, error: Exception) -> None:
        """Count a load that ended the engine, unless the engine was stopped for a ritual; the second one is a fault."""
        context = self._context
        log.warning("loading postponed", version=version.name, error=describe(error))
        if isinstance(error, LoadError) and not await lease.get_lease(context.pool, context.configuration.forge):
            self._ended[version.name] += 1
            if (count := self._ended[version.name]) >= ENDED:
                reason = (
                    f"it ended the engine {count} times in a row, and is tried again when the registry starts: {error}"
                )
                await self.record_fault(version, LoadError(reason))

    async def load(self, inference: Serving, base: Base, version: Version) -> None:
        """Load a version that is whole, and keep the proof that it answers.

        Raises BundleError, LoadError, or InferenceError where the engine is away already.
        """
        self._proven.pop(version.name, None)
        bundle = Path(version.bundle)
        await asyncio.to_thread(check, bundle, version.adapter)
        await inference.models()
        try:
            await inference.load(version.name, bundle / ADAPTER)
        except InferenceError as error:
            raise LoadError(f"the engine does not load it: {error}; the rune's log says more") from error
        try:
            await self.prove(inference, base, version)
        except InferenceError as error:
            if not await inference.healthy():
                raise LoadError(f"the engine ends when it uses it: {error}; the rune's log says more") from error
            log.warning("adapter loaded, and not proven yet", version=version.name, error=str(error))
        if await store.clear_fault(self._context.pool, version.name):
            log.info("adapter whole again", version=version.name)

    async def prove(self, inference: Serving, base: Base, version: Version) -> Binding:
        """The binding of a loaded version, asked for once where it is proven. Raises InferenceError, OutputError."""
        if found := self._proven.get(version.name):
            return found
        probes = read_probes(Path(version.bundle))
        binding = await prove(inference, version.name, base.name, probes, self._settings.probe_tokens)
        if binding.proven:
            self._proven[version.name] = binding
        log.info("adapter probed", version=version.name, **binding.model_dump(), proven=binding.proven)
        return binding

    async def record_unserved_bases(self, served: Iterable[str]) -> None:
        """Record a fault of every version whose base no rune serves; `served` are the digests of those that are."""
        known = set(served)
        for version in await store.list_served(self._context.pool):
            if version.base not in known:
                reason = f"no rune serves the base it was trained on ({version.base}): serve that base, or train again"
                await self.record_fault(version, LoadError(reason))

    async def record_fault(self, version: Version, error: Exception) -> None:
        """Record why a version cannot serve; the next pass loads the one before."""
        if await store.record_fault(self._context.pool, version.name, describe(error)):
            log.error("adapter does not serve", version=version.name, error=describe(error))
            self._context.wake()
