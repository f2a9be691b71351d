"""A base model of which there are only the sizes: config and headers, for what reads no weights."""

from __future__ import annotations

import json
import struct
from pathlib import Path

HIDDEN, INTERMEDIATE, LAYERS, HEADS, VOCABULARY = 512, 1536, 4, 8, 32768
LINEAR = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN // 4, HIDDEN),
    "self_attn.v_proj": (HIDDEN // 4, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
    "mlp.up_proj": (INTERMEDIATE, HIDDEN),
    "mlp.down_proj": (HIDDEN, INTERMEDIATE),
}


def sized_base(folder: Path) -> Path:
    """Write a Llama of 22 M parameters, without its weights."""
    folder.mkdir(parents=True)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 4096,
    }
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)} | {
        f"model.layers.{layer}.{name}.weight": shape for layer in range(LAYERS) for name, shape in LINEAR.items()
    }
    header = json.dumps({name: {"dtype": "BF16", "shape": shape} for name, shape in shapes.items()})
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode())
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder
