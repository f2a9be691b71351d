"""Find `soulforge.toml`, read it, and refuse a wrong one with the keys and the reasons."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shared.config.checks import faults
from shared.config.errors import describe, wrong_values
from shared.config.model import Configuration, embedded
from shared.config.settings import Settings, SettingsError

FILE = "soulforge.toml"
HOUSE = ("anvils", "runes", "covens")


class ConfigurationError(SettingsError):
    """`soulforge.toml` cannot be used; the message has a line per fault: which key, and why."""


def find(settings: Settings) -> Path | None:
    """The file of this house: the one that is named, else in its home, else in the working directory; None: built in."""
    if settings.config:
        return settings.config
    places = (settings.home / FILE, Path.cwd() / FILE)
    return next((path for path in places if path.is_file()), None)


def load(settings: Settings) -> Configuration:
    """What stands in this house. Raises ConfigurationError."""
    if path := find(settings):
        return read(path, settings)
    return _checked("the built-in configuration", _built_in(settings), settings)


def read(path: Path, settings: Settings) -> Configuration:
    """What a file says of this house. Raises ConfigurationError."""
    text = _text(path)
    return _checked(str(path), _valid(path, text, settings), settings)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        advice = "name another in SOULFORGE_CONFIG, or start from `soulforge config example embedded`"
        raise ConfigurationError(f"there is no configuration at {path}: {advice}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error


def _valid(path: Path, text: str, settings: Settings) -> Configuration:
    try:
        return Configuration.model_validate(_whole(tomllib.loads(text), settings))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        raise _refused(str(path), wrong_values(error, text, Configuration)) from error


def _whole(values: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """A file that tells nothing of the house itself, only how it is shared, means the built-in house."""
    if values.keys() & {"forge", *HOUSE}:
        return values
    return {**_built_in(settings).model_dump(include={"forge", *HOUSE}, exclude_unset=True), **values}


def _built_in(settings: Settings) -> Configuration:
    try:
        return embedded(settings.anvil)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f'SOULFORGE_ANVIL is "{settings.anvil}": {reason}') from error


def _checked(source: str, configuration: Configuration, settings: Settings) -> Configuration:
    if found := faults(configuration, settings):
        raise _refused(source, describe(found))
    return configuration


def _refused(source: str, lines: list[str]) -> ConfigurationError:
    if len(lines) == 1:
        return ConfigurationError(f"{source}: {lines[0]}")
    return ConfigurationError("\n  ".join([f"{source} has {len(lines)} faults:", *lines]))
