"""The keys that the gateway knows: the database's, kept in `<home>/gateway/keys.json` for when that is away, and the owner's.

Of all of them it has only the hashes. The owner's secret is in a file that the services' account alone can read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from services.gateway.kept import Kept
from services.gateway.keys.key import OWNER_KEY, Key, hash_secret
from shared.config.settings import SettingsError
from shared.contracts.frozen import Frozen
from shared.contracts.scopes import Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.config.settings import Settings

log = structlog.get_logger()


class KeptKeys(Frozen):
    """The keys as the database had them last."""

    keys: tuple[Key, ...] = ()


class KnownKeys:
    """`all`: every key, those that were revoked included."""

    def __init__(self, settings: Settings) -> None:
        self._file = Kept(settings.home, "keys", KeptKeys())
        self._owner_file = settings.owner_key_file
        self._kept = self._keys = _read(self._file)
        self.all: tuple[Key, ...] = ()
        self.read_owner_key()

    def read_owner_key(self) -> None:
        """Read it again: its owner may have renewed it."""
        try:
            secret = self._owner_file.read_text().strip()
        except OSError:
            secret = ""
        owner = Key(id=OWNER_KEY, name=OWNER_KEY, hash=hash_secret(secret), scopes=frozenset({Scope.ADMIN}))
        self.all = (*self._keys.keys, owner) if secret else self._keys.keys

    def find(self, id: str) -> Key | None:
        """A key by its id; None for one that is not known."""
        return next((key for key in self.all if key.id == id), None)

    async def set(self, keys: Sequence[Key]) -> None:
        """Go by these from now on; returns once a restart knows them. Raises OSError."""
        self._keys = KeptKeys(keys=tuple(keys))
        self.read_owner_key()
        if self._keys != self._kept:
            await self._file.write(self._keys)
            self._kept = self._keys


def _read(file: Kept[KeptKeys]) -> KeptKeys:
    """The keys as they were kept last; none where they cannot be read, so that each is refused until the database answers."""
    try:
        return file.read()
    except SettingsError as error:
        log.error("keys not readable", error=str(error))
        return KeptKeys()
