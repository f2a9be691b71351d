"""What the evaluator refuses before it loads anything: inputs that are not what the job says, or not safe to load."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from shared.contracts.checks import Check
from shared.contracts.frozen import Frozen
from shared.contracts.karma import ChatMessage
from shared.digests import digest_tree

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})


class InputError(Exception):
    """An input can never be evaluated as it is; the message says which and why."""


class HoldoutItem(Frozen):
    """One line of the sealed holdout: a conversation that ends with the reference answer."""

    id: str
    session: str
    messages: tuple[ChatMessage, ...]
    checks: tuple[Check, ...] = ()


def expect_digest(name: str, path: Path, expected: str) -> None:
    """Raises InputError unless the directory's digest is the one that the job names."""
    if not path.is_dir():
        raise InputError(f"{name}: {path} is not a directory")
    found = digest_tree(path)
    if found != expected:
        raise InputError(f"{name}: {path} has digest {found}, the job names {expected}: it is not what was stated")


def expect_sound_adapter(path: Path) -> None:
    """Raises InputError unless `path` is a LoRA in safetensors with finite weights. Nothing is unpickled."""
    pickles = sorted(file.name for file in path.rglob("*") if file.suffix in PICKLES)
    if pickles:
        raise InputError(f"adapter: {pickles} may run code when loaded; only safetensors are accepted")
    for name in (CONFIG, WEIGHTS):
        if not (path / name).is_file():
            raise InputError(f"adapter: {path} has no {name}")
    _expect_lora(path / CONFIG)
    _expect_finite(path / WEIGHTS)


def _expect_lora(config: Path) -> None:
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"adapter: {config.name} is not JSON: {error}") from error
    if not isinstance(values, dict) or values.get("peft_type") != "LORA":
        raise InputError(f"adapter: {config.name} does not describe a LoRA")
    # PEFT imports the module that auto_mapping names.
    if values.get("auto_mapping"):
        raise InputError(f"adapter: {config.name} has an auto_mapping, which may run foreign code")


def _expect_finite(weights: Path) -> None:
    try:
        with safe_open(weights, framework="pt") as file:
            names = list(file.keys())
            broken = [name for name in names if not torch.isfinite(file.get_tensor(name)).all()]
    except SafetensorError as error:
        raise InputError(f"adapter: {weights.name} is corrupt: {error}") from error
    if not names:
        raise InputError(f"adapter: {weights.name} has no tensors")
    if broken:
        raise InputError(f"adapter: {len(broken)} of {len(names)} tensors hold NaN or infinity, first {broken[0]}")


def tensor_names(path: Path) -> set[str]:
    with safe_open(path / WEIGHTS, framework="pt") as file:
        return set(file.keys())


def read_holdout(path: Path) -> list[HoldoutItem]:
    """The items of the sealed holdout. Raises InputError when it is missing, empty, malformed or has an id twice."""
    if not path.is_file():
        raise InputError(f"holdout: {path} is not a file")
    items = [
        _item(path, number, line) for number, line in enumerate(path.read_text("utf-8").splitlines(), 1) if line.strip()
    ]
    if not items:
        raise InputError(f"holdout: {path} is empty: nothing can be said about the target")
    if len({item.id for item in items}) != len(items):
        raise InputError(f"holdout: {path} names an id twice")
    return items


def _item(path: Path, number: int, line: str) -> HoldoutItem:
    try:
        item = HoldoutItem.model_validate_json(line)
    except ValidationError as error:
        raise InputError(f"holdout: line {number} of {path} is not an item: {error}") from error
    if not item.messages or item.messages[-1].role != "assistant" or not item.messages[-1].content:
        raise InputError(f"holdout: item {item.id} does not end with the assistant's answer")
    return item
