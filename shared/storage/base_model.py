"""The base models of this installation: where each is, and its digest, computed once and checked at every use.

The digest is kept in the home with sizes and times of the files; a folder is only read again where these have changed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from shared.contracts.frozen import Frozen
from shared.storage.artifacts import write_atomically
from shared.storage.digests import digest_tree

if TYPE_CHECKING:
    from shared.config.model import Configuration
    from shared.config.settings import Settings

CONFIG = "config.json"


class BaseError(Exception):
    """A base model cannot be used; the message names the folder, and what to do."""


class Base(Frozen):
    """A base model: the name clients ask for, its folder, the digest of that folder."""

    name: str
    path: Path
    digest: str


class Known(Frozen):
    """What is kept of a base. `stamp` is over names, sizes and times of its files."""

    path: Path
    stamp: str
    digest: str


class Bases:
    """The bases that the configuration declares, and the embedded one."""

    def __init__(self, settings: Settings, configuration: Configuration) -> None:
        self._settings, self._declared = settings, configuration.bases
        self._used = configuration.bases_in_use()

    async def get(self, name: str) -> Base:
        """A base, with its digest checked. Raises BaseError where it is missing or has changed."""
        return await asyncio.to_thread(self._get, name)

    async def find(self, digest: str) -> Base | None:
        """The base of that digest among those that runes serve.

        Raises BaseError or OSError where it is not found and another, which may be it, cannot be read.
        """
        unreadable: BaseError | OSError | None = None
        for name in self._used:
            try:
                base = await self.get(name)
            except (BaseError, OSError) as error:
                unreadable = unreadable or error  # another one may have this digest
                continue
            if base.digest == digest:
                return base
        if unreadable:
            raise unreadable
        return None

    def path(self, name: str) -> Path:
        """The folder of a base, whether it is there or not."""
        return self._declared[name].path if name in self._declared else self._settings.models_dir / name

    def _get(self, name: str) -> Base:
        path = self.path(name)
        if not (path / CONFIG).is_file():
            raise BaseError(f"there is no base model in {path} ({CONFIG} is missing): {self._advice(name)}")
        file, stamp = self._settings.home / "bases" / f"{name}.json", _stamp(path)
        known = _read(file)
        if known and (known.path, known.stamp) == (path, stamp):
            return Base(name=name, path=path, digest=known.digest)
        digest = _digest(path, stamp)
        if known and known.digest != digest:
            raise BaseError(
                f"base {name} in {path} has changed: its digest was {known.digest} and is {digest}, so adapters trained on it "
                "do not fit. Put the former files back, or declare the new ones in [bases] under another name; or delete "
                f"{file}: then those adapters are not loaded any more"
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, Known(path=path, stamp=stamp, digest=digest).model_dump_json(indent=2))
        return Base(name=name, path=path, digest=digest)

    def _advice(self, name: str) -> str:
        if name in self._declared:
            return f"correct bases.{name}.path in soulforge.toml"
        if os.path.lexists(self.path(name)):
            return "move it away, then `soulforge up` prepares one"
        return "run `soulforge up`, which prepares it"


def _read(file: Path) -> Known | None:
    try:
        return Known.model_validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


@lru_cache(maxsize=64)
def _digest(path: Path, stamp: str) -> str:
    """Read every file once; a folder of another stamp is another entry of the cache."""
    del stamp
    return digest_tree(path)


def _stamp(path: Path) -> str:
    files = sorted((entry.relative_to(path).as_posix(), entry.stat()) for entry in path.rglob("*") if entry.is_file())
    return hashlib.sha256("".join(f"{name} {at.st_size} {at.st_mtime_ns}\n" for name, at in files).encode()).hexdigest()
