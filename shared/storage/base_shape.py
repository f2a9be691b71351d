"""What a base model's own files state about it, read without torch: size, layers, template; and which recipes fit it."""

from __future__ import annotations

import asyncio
import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shared.config.recipe import Recipe
from shared.contracts.frozen import Frozen
from shared.storage.base_model import CONFIG, BaseError, Bases

WEIGHTS = "*.safetensors"
TEMPLATES = ("chat_template.jinja", "chat_template.json")
TOKENIZER_CONFIG = "tokenizer_config.json"
LARGEST_HEADER = 100_000_000  # bytes; the format's own limit
NOT_ADAPTED = frozenset({"embed_tokens", "lm_head"})
SHOWN = 12  # names in an error


class _Config(Frozen, extra="ignore"):
    """The part of `config.json` that is read."""

    architectures: tuple[str, ...] = ()
    quantization_config: dict[str, Any] | None = None


@dataclass(frozen=True)
class BaseShape:
    """A base model as its files show it. `linear` has the last part of the name of every linear layer."""

    architecture: str
    parameters: int
    linear: frozenset[str]
    has_template: bool
    quantized: bool


def read_shape(base: Path) -> BaseShape:
    """Read config and headers. Raises BaseError where they cannot be read."""
    try:
        config = _Config.model_validate_json((base / CONFIG).read_bytes())
        shapes = read_tensors(base)
        has_template = any((base / name).is_file() for name in TEMPLATES) or _in_tokenizer(base)
    except (OSError, ValueError, ValidationError, struct.error) as error:
        raise BaseError(f"the base model in {base} cannot be read: {error}") from error
    return BaseShape(
        architecture=config.architectures[0] if config.architectures else "",
        parameters=sum(map(math.prod, shapes.values())),
        linear=frozenset(_linear(shapes)) - NOT_ADAPTED,
        has_template=has_template,
        quantized=config.quantization_config is not None,
    )


def read_tensors(base: Path) -> dict[str, list[int]]:
    """The shape of every tensor by its name. Raises OSError, ValueError, struct.error."""
    return {name: shape for file in sorted(base.glob(WEIGHTS)) for name, shape in _header(file).items()}


def misfit(recipe: Recipe, base: BaseShape) -> str | None:
    """Why the recipe cannot train this base into an adapter that is served; None where it can, or where its
    files state nothing."""
    if not base.architecture:
        return None
    if not base.architecture.endswith(("ForCausalLM", "ForConditionalGeneration")):
        return f"the base is a {base.architecture}, which is no language model that chats"
    if not base.has_template:
        return f"the base has no chat template: put {TEMPLATES[0]} beside its {CONFIG}"
    if base.quantized:
        return 'the base is quantised: declare its full-precision weights; method "qlora" quantises them itself'
    missing = sorted(set(recipe.target_modules) - base.linear) if recipe.target_modules != "all-linear" else []
    if missing:
        known = ", ".join(sorted(base.linear)[:SHOWN])
        return f"target_modules names {', '.join(missing)}, which the base does not have: its linear layers are {known}"
    return None


async def expect_fit(recipe: Recipe, bases: Bases, name: str) -> None:
    """Raise BaseError where the recipe cannot train the base of that name, or where the base has changed.

    A base that is not there is no fault of the recipe: the stage that needs it waits for it and names it.
    """
    if not (bases.path(name) / CONFIG).is_file():
        return
    base = await bases.get(name)
    if reason := misfit(recipe, await asyncio.to_thread(read_shape, base.path)):
        raise BaseError(f"it does not fit base {name}: {reason}")


def _header(file: Path) -> dict[str, list[int]]:
    """The shape of every tensor in a safetensors file: 8 bytes of length, then JSON (the format's specification)."""
    with file.open("rb") as weights:
        (length,) = struct.unpack("<Q", weights.read(8))
        if length > LARGEST_HEADER:
            raise ValueError(f"{file.name} is not a safetensors file")
        header: dict[str, dict[str, Any]] = json.loads(weights.read(length))
    return {name: tensor["shape"] for name, tensor in header.items() if name != "__metadata__"}


def _linear(shapes: dict[str, list[int]]) -> list[str]:
    layers = [
        name.removesuffix(".weight") for name, shape in shapes.items() if name.endswith(".weight") and len(shape) == 2
    ]
    return [layer.rpartition(".")[2] for layer in layers]


def _in_tokenizer(base: Path) -> bool:
    file = base / TOKENIZER_CONFIG
    return file.is_file() and bool(json.loads(file.read_bytes()).get("chat_template"))
