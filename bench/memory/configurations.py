"""What is measured: shapes of bases, and trainings of each."""

from __future__ import annotations

from typing import Any

from shared.config.recipe import Recipe
from shared.config.tables import EMBEDDED_BASE
from shared.contracts.frozen import Frozen

#: Shapes of random weights, as transformers' configurations have them; all have the tokenizer of the embedded base.
LLAMA: dict[str, Any] = {"model_type": "llama", "tie_word_embeddings": True, "max_position_embeddings": 8192}
SHAPES: dict[str, dict[str, Any]] = {
    "narrow": LLAMA
    | {
        "hidden_size": 384,
        "intermediate_size": 1024,
        "num_hidden_layers": 16,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "vocab_size": 49152,
    },
    "wide": LLAMA
    | {
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_hidden_layers": 8,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "vocab_size": 49152,
    },
    "qwen": LLAMA
    | {
        "model_type": "qwen2",
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 6,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
    },
}
MLP = ("gate_proj", "up_proj", "down_proj")
TRAINED = 0.35  #: of the tokens of a row, as in the example karma


class Setting(Frozen):
    """One training: a base, a recipe, and rows of 0.7 to 1 times `length` tokens."""

    base: str
    length: int
    recipe: Recipe
    checkpointing: bool = False

    @property
    def name(self) -> str:
        recipe = self.recipe
        parts = (
            f"{self.base} {recipe.rows_at_once} x {self.length} r{recipe.r} {recipe.precision}",
            f"dropout {recipe.dropout:g}" if recipe.dropout else "",
            "mlp" if recipe.target_modules == MLP else "",
            "checkpointing" if self.checkpointing else "",
        )
        return " ".join(filter(None, parts))


def _setting(base: str, rows: int, length: int, checkpointing: bool = False, **recipe: Any) -> Setting:
    return Setting(base=base, length=length, checkpointing=checkpointing, recipe=Recipe(batch_size=rows, **recipe))


SETTINGS = (
    _setting("narrow", 1, 256),
    _setting("narrow", 8, 128),
    _setting("narrow", 16, 64),
    _setting("narrow", 4, 512),
    _setting("narrow", 2, 1024),
    _setting("narrow", 4, 512, checkpointing=True),
    _setting("narrow", 4, 256, r=64),
    _setting("narrow", 4, 256, dropout=0.1),
    _setting("narrow", 4, 256, target_modules=MLP),
    _setting("narrow", 4, 256, precision="fp32"),
    _setting("narrow", 4, 256, checkpointing=True, precision="fp32"),
    _setting("wide", 2, 256),
    _setting("wide", 8, 128),
    _setting("wide", 2, 384, r=64),
    _setting("wide", 4, 128, precision="fp32"),
    _setting("wide", 4, 256, checkpointing=True),
    _setting("qwen", 2, 128),
    _setting("qwen", 4, 192),
    _setting("qwen", 4, 192, checkpointing=True),
    _setting("qwen", 2, 128, precision="fp32"),
    _setting(EMBEDDED_BASE, 1, 128),
    _setting(EMBEDDED_BASE, 1, 512),
    _setting(EMBEDDED_BASE, 4, 128),
    _setting(EMBEDDED_BASE, 4, 256),
    _setting(EMBEDDED_BASE, 2, 256, checkpointing=True),
    _setting(EMBEDDED_BASE, 4, 128, precision="fp32"),
    _setting(EMBEDDED_BASE, 8, 160),
    _setting(EMBEDDED_BASE, 16, 128),
    _setting(EMBEDDED_BASE, 8, 160, checkpointing=True),
)
