"""What the gateway keeps in `<home>/gateway`, so that a restart knows it: each a file of JSON, written whole and synced."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from shared.config.settings import SettingsError
from shared.storage.artifacts import make_folder, write_atomically

M = TypeVar("M", bound=BaseModel)


class Kept(Generic[M]):
    """One file. Of several writes at once the last value ends up in it."""

    def __init__(self, home: Path, name: str, empty: M) -> None:
        self.file = home / "gateway" / f"{name}.json"
        self._empty = empty
        self._writing = asyncio.Lock()
        self._newest = self._written = empty

    @property
    def behind(self) -> bool:
        """Whether a write failed, or is under way: a restart would not know the newest value."""
        return self._written is not self._newest

    def read(self) -> M:
        """The value that was written last, or the empty one. Raises SettingsError where it cannot be read."""
        try:
            return type(self._empty).model_validate_json(self.file.read_bytes())
        except FileNotFoundError:
            return self._empty
        except (OSError, ValidationError) as error:
            raise SettingsError(
                f"{self.file} cannot be read ({str(error).splitlines()[0]}): make it readable, or remove it where it is damaged"
            ) from error

    async def write(self, value: M) -> None:
        """Return once this value, or a later one, survives a power cut. Raises OSError."""
        self._newest = value
        async with self._writing:
            newest = self._newest
            await asyncio.to_thread(self._write, newest)
            self._written = newest

    def _write(self, value: M) -> None:
        make_folder(self.file.parent)
        write_atomically(self.file, value.model_dump_json())
