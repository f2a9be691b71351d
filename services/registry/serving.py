"""Make every rune hold what its base's personas need, and record why a version cannot serve: then the one before serves.

Desired are the champion, the previous version and the candidate of every persona; observed is what each rune says that it has.
The alias stays where it is: a version whose bundle is repaired is found whole at the next try and serves again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
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
    from services.registry.store import Version
    from shared.drivers.inference.port import Serving
    from shared.runtime.context import ServiceContext
    from shared.storage.base_model import Base

log = structlog.get_logger()
RETRY_S = 60.0
ENDED = 2  # loads in a row that ended the engine: once may be chance
# A request that was given the name before an alias moved still arrives with it; it then ends on the version it began with.
UNLOAD_AFTER_S = 60.0


class LoadError(Exception):
    """An engine that answered before does not load an adapter, or ends with it."""


@dataclass
class Engine:
    """A rune that answers, the base that it serves, and the versions that it has loaded and was asked about.

    A version's value is the number of prompts of its proof; None where it is not proven to be what answers.
    """

    rune: str
    inference: Serving
    base: Base
    loaded: dict[str, int | None] = field(default_factory=dict)


class Loader:
    """Loads and unloads versions; the proofs of what is loaded are kept in the database, by rune."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._ended: Counter[str] = Counter()  # by version: loads in a row that ended the engine
        self._unwanted_since: dict[tuple[str, str], float] = {}  # rune and version -> when that was first seen
        self._crypt_checked = False

    async def check_crypt(self) -> None:
        """Check the bundles of all versions that serve or may have to, once after the start."""
        if self._crypt_checked:
            return
        pool = self._context.pool
        for version in await store.list_desired(pool):
            try:
                await asyncio.to_thread(check, Path(version.bundle), version.adapter)
                await store.clear_fault(pool, version.name)
            except BundleError as error:
                await self.record_fault(version, error)
        self._crypt_checked = True

    async def observe(self, engine: Engine) -> None:
        """Learn what an engine has loaded; what it lost at a restart is forgotten, with its proof. Raises InferenceError."""
        names = await engine.inference.models()
        loaded = await store.list_loaded(self._context.pool, engine.rune)
        if loaded.keys() - names:
            await store.forget_loaded(self._context.pool, engine.rune, names)
        engine.loaded = {name: probes for name, probes in loaded.items() if name in names}
        await self._unload(engine, names)

    async def _unload(self, engine: Engine, names: frozenset[str]) -> None:
        """Unload what is wanted no more: a withdrawn version at once, others after UNLOAD_AFTER_S."""
        unwanted = await store.list_unwanted(self._context.pool, names)
        for rune, name in list(self._unwanted_since):
            if rune == engine.rune and name not in unwanted:
                del self._unwanted_since[rune, name]
        for name, withdrawn in unwanted.items():
            since = self._unwanted_since.setdefault((engine.rune, name), monotonic())
            if (withdrawn or monotonic() - since >= UNLOAD_AFTER_S) and await self._disown(engine.rune, name):
                await engine.inference.unload(name)
                engine.loaded.pop(name, None)
                log.info("adapter unloaded", rune=engine.rune, version=name, withdrawn=withdrawn)

    async def _disown(self, rune: str, name: str) -> bool:
        """Forget that a rune has a version loaded, unless it is wanted by now: a decision relies on that record."""
        async with self._context.pool.acquire() as conn, conn.transaction():
            return await store.forget_unwanted(conn, rune, name)

    async def load_desired(self, engines: list[Engine]) -> None:
        """Load what the engines of one base are to have, and try versions with a fault again; one delays no other.

        One that ended an engine before is not tried again in this process: it would interrupt inference every time. An
        engine that does not answer any more is taken off the list.
        """
        faulty = await store.list_faulty(self._context.pool, RETRY_S)
        for version in await store.list_desired(self._context.pool):
            due = faulty.get(version.name)
            if due is False or (due and self._ended[version.name] >= ENDED):
                continue
            here = [engine for engine in engines if engine.base.digest == version.base]
            if here and (due or any(version.name not in engine.loaded for engine in here)):
                await self._try(engines, here, version, afresh=bool(due))

    async def _try(self, engines: list[Engine], here: list[Engine], version: Version, afresh: bool) -> None:
        """Load a version into these engines, or record its fault."""
        for engine in here:
            try:
                await self.load(engine, version, afresh)
            except Exception as error:
                if not await engine.inference.healthy():
                    engines.remove(engine)
                    await self._record_end(version, error)
                    return
                if is_shared(error):
                    log.warning("loading postponed", version=version.name, error=describe(error))
                    return
                await self.record_fault(version, error)
                break
        else:
            if await store.clear_fault(self._context.pool, version.name):
                log.info("adapter whole again", version=version.name)
        self._ended.pop(version.name, None)

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

    async def load(self, engine: Engine, version: Version, afresh: bool = False) -> None:
        """Load a version that is whole, and record whether it is what answers; where that is recorded, only if `afresh`.

        Raises BundleError, LoadError, or InferenceError where the engine is away already.
        """
        if version.name in engine.loaded and not afresh:
            return
        bundle = Path(version.bundle)
        await asyncio.to_thread(check, bundle, version.adapter)
        await engine.inference.models()
        try:
            await engine.inference.load(version.name, bundle / ADAPTER)
        except InferenceError as error:
            raise LoadError(f"the engine does not load it: {error}; the rune's log says more") from error
        try:
            await self.prove(engine, version)
        except InferenceError as error:
            if not await engine.inference.healthy():
                raise LoadError(f"the engine ends when it uses it: {error}; the rune's log says more") from error
            log.warning("adapter loaded, and not proven yet", version=version.name, error=str(error))

    async def prove(self, engine: Engine, version: Version) -> Binding:
        """Ask a loaded version, and record whether it is what answers. Raises InferenceError, OutputError."""
        probes = read_probes(Path(version.bundle))
        binding = await prove(engine.inference, version.name, probes)
        await store.record_loaded(self._context.pool, engine.rune, version.name, binding.asked, binding.proven)
        engine.loaded[version.name] = binding.asked if binding.proven else None
        log.info(
            "adapter probed", rune=engine.rune, version=version.name, **binding.model_dump(), proven=binding.proven
        )
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
