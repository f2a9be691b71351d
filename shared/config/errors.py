"""Read a TOML file that people write; whatever is wrong in it is one kind of error: each fault with its key and the reason."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from shared.config.settings import SettingsError

Place = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)


class ConfigurationError(SettingsError):
    """A file cannot be used; the message has every fault: which key, and why."""


class Fault(NamedTuple):
    """One thing that is wrong; an empty place means the whole file."""

    place: Place
    reason: str


def describe(faults: Iterable[Fault]) -> list[str]:
    """A line per fault: `covens.hearth.runes[1]: there is no rune "chta"`."""
    return [f"{_dotted(fault.place)}: {fault.reason}" if fault.place else fault.reason for fault in faults]


def _dotted(place: Place) -> str:
    words = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in place)
    return "".join(words).removeprefix(".")


def refusal(source: str, found: list[Fault]) -> ConfigurationError:
    """The error about a file with faults: on one line where there is one, else a line per fault."""
    lines = describe(found)
    if len(lines) == 1:
        return ConfigurationError(f"{source}: {lines[0]}")
    return ConfigurationError("\n  ".join([f"{source} has {len(lines)} faults:", *lines]))


def read_toml(path: Path, advice: str) -> dict[str, Any]:
    """The values of a TOML file. Raises ConfigurationError; `advice` is for a file that is not there."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"there is no file {path}: {advice}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error


def validated(path: Path, values: dict[str, Any], model: type[M]) -> M:
    """The values of a file as its model. Raises ConfigurationError with every fault."""
    try:
        return model.model_validate(values, context={"folder": path.parent})
    except ValidationError as error:
        faults = [_fault(found, values, model) for found in error.errors(include_url=False)]
        raise refusal(str(path), faults) from error


def _fault(found: ErrorDetails, values: dict[str, Any], model: type[BaseModel]) -> Fault:
    """A fault that pydantic found, without the names that it gives to branches of its own."""
    place = _place(found["loc"], values)
    details = found.get("ctx", {})
    match found["type"]:
        case "missing":
            return Fault((*place, found["loc"][-1]), "is required")
        case "extra_forbidden":
            return Fault(place, f"unknown key; {nearest(str(place[-1]), keys_at(model, place[:-1]))}")
        case "union_tag_not_found":
            return Fault((*place, details["discriminator"].strip("'")), "is required")
        case "union_tag_invalid":
            return Fault((*place, details["discriminator"].strip("'")), f"must be one of {details['expected_tags']}")
    return Fault(place, found["msg"].removeprefix("Value error, "))


def nearest(wrong: str, known: Iterable[str]) -> str:
    """What was probably meant, or else everything that could be."""
    names = sorted(known)
    if close := get_close_matches(wrong, names, n=1):
        return f'did you mean "{close[0]}"?'
    return f"known: {', '.join(names)}" if names else "there are none"


def keys_at(model: type[BaseModel], place: Place) -> set[str]:
    """The keys that a table of the file may have."""
    models = [model]
    for key in place:
        inner = [found for each in models for found in _models(_fields(each).get(str(key)))]
        models = inner or models  # a name that the file gives, as `chat` in `runes.chat`, leads to no other model
    return {name for each in models for name in _fields(each)}


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _place(loc: Place, values: Any) -> Place:
    """As much of a place as the file has: pydantic's also names the branches of unions that it tried."""
    place: list[str | int] = []
    for key in loc:
        try:
            values = values[key]
        except (KeyError, IndexError, TypeError):
            continue
        place.append(key)
    return tuple(place)
