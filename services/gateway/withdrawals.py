"""Which adapters may not answer, and why: by digest, so that no other name of the same weights answers either.

What the registry decided is in the table. What the owner decided at the control socket is kept here as well, since the
registry may not know it yet: only an override that is recorded there, later, lifts it.
"""

from __future__ import annotations

import time
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from pydantic import Field

from services.gateway.errors import Refusal
from services.gateway.kept import Kept
from services.gateway.names import WITHDRAWN
from shared.contracts.frozen import Frozen

if TYPE_CHECKING:
    from pathlib import Path

    from services.gateway.in_flight import InFlight
    from services.gateway.names import Target
    from services.gateway.table import Table, Version


class Withdrawal(Frozen):
    """A decision given at the control socket, at `at` in seconds since the epoch. `adapter`: its digest, once it is known."""

    version: str
    adapter: str | None
    why: str
    at: float


class KeptWithdrawals(Frozen):
    """By the name of the version."""

    given: dict[str, Withdrawal] = Field(default_factory=dict)


class Withdrawals:
    """The adapters that may not answer."""

    def __init__(self, home: Path, table: Table) -> None:
        self._file = Kept(home, "withdrawals", KeptWithdrawals())
        self.given = dict(self._file.read().given)
        self._blocked: dict[str, str] = {}
        self.learn(table)

    def find(self, version: Version) -> str | None:
        """Why this version may not answer; None where it may."""
        if given := self.given.get(version.name):
            return given.why
        return self._blocked.get(version.adapter)

    def learn(self, table: Table) -> bool:
        """Apply what the registry decided; True where that changes what is to be kept."""
        before = dict(self.given)
        for name, given in before.items():
            if given.adapter is None and (version := table.versions.get(name)):
                self.given[name] = given.model_copy(update={"adapter": version.adapter})
        overridden: dict[str, float] = {}
        for version in table.versions.values():
            overridden[version.adapter] = max(overridden.get(version.adapter, 0.0), version.overridden_at or 0.0)
        for name, given in list(self.given.items()):
            if overridden.get(given.adapter or "", 0.0) > given.at:
                del self.given[name]
        self._blocked = {one.adapter: one.withdrawn for one in table.versions.values() if one.withdrawn}
        self._blocked |= {given.adapter: given.why for given in self.given.values() if given.adapter}
        return self.given != before

    def add(self, name: str, why: str, table: Table) -> None:
        """Refuse a version from now on."""
        known = table.versions.get(name)
        self.given[name] = Withdrawal(
            version=name, adapter=known.adapter if known else None, why=why or "no reason was given", at=time.time()
        )
        self.learn(table)

    @property
    def behind(self) -> bool:
        """Whether a restart would not know them all."""
        return self._file.behind

    async def keep(self) -> None:
        """Return once a restart knows them. Raises OSError."""
        await self._file.write(KeptWithdrawals(given=self.given))

    def end(self, requests: AbstractSet[InFlight]) -> set[InFlight]:
        """End those of the requests that are answered by what may not answer; they are gone soon."""
        return {request for request in requests if (why := self._find_end(request.target)) and request.end(why)}

    def _find_end(self, target: Target | None) -> Refusal | None:
        if target is None or (why := self._blocked.get(target.adapter or "")) is None:
            return None
        if target.pinned:
            return Refusal(403, WITHDRAWN, f"{target.model} was withdrawn: {why}")
        return Refusal(503, WITHDRAWN, f"{target.model} was withdrawn: {why}; ask again", retry_after_s=1.0)
