"""Find `soulforge.toml`, read it with the tables of all services, and refuse a wrong one with the keys and the reasons."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import create_model

from shared.config.checks import faults
from shared.config.errors import read_toml, refusal, validated
from shared.config.model import Configuration, embedded
from shared.config.settings import Settings
from shared.config.tables import Section

FILE = "soulforge.toml"
MACHINE = ("forge", "anvils", "runes", "covens")
ADVICE = "name another in SOULFORGE_CONFIG, or start from `soulforge config example embedded`"
Sections = tuple[type[Section], ...]


def find(settings: Settings) -> Path | None:
    """The file in use: the one that is named, else in the home, else in the working directory; None: built in."""
    if settings.config:
        return settings.config
    places = (settings.home / FILE, Path.cwd() / FILE)
    return next((path for path in places if path.is_file()), None)


def load(settings: Settings, sections: Sections) -> Configuration:
    """The configuration in use; `sections` are the tables of the services. Raises ConfigurationError."""
    if path := find(settings):
        return read(path, settings, sections)
    return _checked("the built-in configuration", _file_model(sections).model_validate(_built_in()), settings)


def read(path: Path, settings: Settings, sections: Sections) -> Configuration:
    """The configuration in a file. Raises ConfigurationError."""
    values = _completed(read_toml(path, ADVICE))
    return _checked(str(path), validated(path, values, _file_model(sections)), settings)


@lru_cache
def _file_model(sections: Sections) -> type[Configuration]:
    """The model of the whole file: one field more per section."""
    fields: dict[str, Any] = {kind.table: (kind, kind()) for kind in sections}
    return create_model("Configuration", __base__=Configuration, **fields)


def _completed(values: dict[str, Any]) -> dict[str, Any]:
    """A file without any table of the machine means the built-in one."""
    return values if values.keys() & set(MACHINE) else {**_built_in(), **values}


def _built_in() -> dict[str, Any]:
    return embedded().model_dump(include=set(MACHINE), exclude_unset=True)


def _checked(source: str, configuration: Configuration, settings: Settings) -> Configuration:
    if found := faults(configuration, settings):
        raise refusal(source, found)
    return configuration
