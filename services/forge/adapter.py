"""What counts as an adapter: a plain PEFT directory, safetensors only, whole. A partial is never an adapter."""

from __future__ import annotations

import json
from pathlib import Path

from shared.storage.digests import digest_tree

FILES = frozenset({"adapter_config.json", "adapter_model.safetensors"})


class AdapterError(Exception):
    """The directory is not an adapter; the message says what is wrong with it."""


def adapter_digest(path: Path) -> str:
    """The digest that names this adapter. Raises AdapterError unless the directory holds exactly an adapter."""
    found = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    if found != FILES or any((path / name).is_symlink() for name in FILES):
        raise AdapterError(
            f"{path.name} must hold exactly {', '.join(sorted(FILES))}, found {', '.join(sorted(found)) or 'nothing'}"
        )
    try:
        config = json.loads((path / "adapter_config.json").read_text())
    except ValueError as error:
        raise AdapterError(f"adapter_config.json is not JSON: {error}") from error
    if config.get("peft_type") != "LORA":
        raise AdapterError(f"adapter_config.json names {config.get('peft_type')!r}, LORA expected")
    return digest_tree(path)
