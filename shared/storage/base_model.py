"""The base model: prepared once, named by a digest that is written beside it."""

from __future__ import annotations

from pathlib import Path

from shared.config.settings import Settings
from shared.contracts.frozen import Frozen


class BaseMissingError(Exception):
    """The base model was not prepared; the message says what to do."""


class Base(Frozen):
    """A base model: the name clients ask for, its directory, the digest of that directory."""

    name: str
    path: Path
    digest: str


def digest_file_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def find_base(settings: Settings) -> Base:
    """The prepared base model of this house. Raises BaseMissingError."""
    path = settings.models_dir / settings.base
    try:
        digest = digest_file_of(path).read_text().strip()
    except FileNotFoundError:
        raise BaseMissingError(
            f"base model {settings.base} is not in {settings.models_dir}: run `soulforge up`, which prepares it"
        ) from None
    return Base(name=settings.base, path=path, digest=digest)
