"""Checks of the evaluator's inputs before it loads them: digests as in the job, and files that are safe to load."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from shared.contracts.forge import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from shared.jobs.result_writer import InputError
from shared.storage.digests import digest_tree

PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})


def expect_digest(name: str, path: Path, expected: str) -> None:
    """Raise InputError unless the directory has the digest that the job names."""
    if not path.is_dir():
        raise InputError(f"{name}: {path} is not a directory")
    found = digest_tree(path)
    if found != expected:
        raise InputError(
            f"{name}: {path} has digest {found}, the job names {expected}: it was changed after it was recorded"
        )


def expect_sound_adapter(path: Path) -> None:
    """Raise InputError unless `path` is a LoRA in safetensors with finite weights. Nothing is unpickled."""
    pickles = sorted(file.name for file in path.rglob("*") if file.suffix in PICKLES)
    if pickles:
        raise InputError(f"adapter: {pickles} may run code when loaded; only safetensors are accepted")
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (path / name).is_file():
            raise InputError(f"adapter: {path} has no {name}")
    _expect_lora(path / ADAPTER_CONFIG)
    _expect_finite(path / ADAPTER_WEIGHTS)


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
    with safe_open(path / ADAPTER_WEIGHTS, framework="pt") as file:
        return set(file.keys())
