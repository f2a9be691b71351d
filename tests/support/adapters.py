"""Adapters of the tested base that were never trained."""

from __future__ import annotations

import json
import struct
from pathlib import Path


def save_adapter(folder: Path, value: float, rows: int = 576) -> Path:
    """A LoRA of rank 1 on one projection of SmolLM2-135M, written by hand: the core environment has no torch."""
    folder.mkdir()
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 1, "lora_alpha": 1, "target_modules": ["o_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config | {"layers_to_transform": [29]}))
    name = "base_model.model.model.layers.29.self_attn.o_proj.lora_{}.weight"
    shapes = {name.format("A"): (1, rows), name.format("B"): (rows, 1)}
    header, data = {}, b""
    for tensor, shape in shapes.items():
        values = struct.pack("<f", value) * rows
        header[tensor] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    head = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + data)
    return folder
