"""Reads the rows of a manifest after proving that the manifest is the one the job names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from services.forge.trainer.failure import BadInput
from shared.contracts.frozen import Frozen
from shared.digests import digest_tree

Message = dict[str, Any]


class Row(Frozen):
    """One conversation that ends in the answer to train on. Fields the trainer has no use for are let be."""

    model_config = ConfigDict(extra="ignore")

    id: str
    messages: tuple[Message, ...] = Field(min_length=2)


def read_rows(manifest_dir: Path, manifest_digest: str) -> tuple[list[Row], list[Row]]:
    """The train and dev rows. Raises BadInput for a digest that differs, a missing file or a line that is no row."""
    if not manifest_dir.is_dir():
        raise BadInput(f"no manifest directory at {manifest_dir}")
    found = digest_tree(manifest_dir)
    if found != manifest_digest:
        raise BadInput(f"the manifest at {manifest_dir} is {found}, the job names {manifest_digest}: harvest again")
    train = _read(manifest_dir / "train.jsonl")
    if not train:
        raise BadInput(f"{manifest_dir / 'train.jsonl'} has no rows: there is nothing to train on")
    return train, _read(manifest_dir / "dev.jsonl")


def _read(path: Path) -> list[Row]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise BadInput(f"the manifest lacks {path.name}") from None
    return [_row(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _row(path: Path, number: int, line: str) -> Row:
    try:
        row = Row.model_validate_json(line)
    except ValidationError as error:
        raise BadInput(f"{path.name} line {number} is not a row: {error.errors()[0]['msg']}") from error
    last = row.messages[-1]
    if last.get("role") != "assistant" or not str(last.get("content") or "").strip():
        raise BadInput(f"{path.name} line {number}: row {row.id} does not end in an assistant's answer")
    return row
