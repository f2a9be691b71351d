"""How much memory a training takes, estimated before it begins: from the base's files, the recipe and the rows.

Which tensors a layer keeps for the backward pass follows from the code of transformers, PEFT and TRL; the constants are
measured (docs/memory.md). Bytes above the process with its libraries and without the base; on a GPU, of the device.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from shared.contracts.frozen import Frozen
from shared.storage.base_model import CONFIG
from shared.storage.base_shape import NOT_ADAPTED, read_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.config.recipe import Recipe

MIB, GIB = 1024**2, 1024**3
IDLE = 700 * MIB  #: a trainer with its libraries, and without the base
LIBRARIES = 150 * MIB  #: what they load and keep during the run
#: Of what is allocated and freed in each step. In bf16 on a CPU, what was freed is kept in pieces of every row's length.
FRAGMENTED, PIECES, PIECES_CHECKPOINTED = 0.12, 0.6, 0.95
FLOAT, HALF = 4, 2  #: bytes
FOUR_BIT = 0.53  #: bytes of a weight in 4 bit, with its scales
TILE = 32768, 4096  #: entries of the vocabulary and tokens whose logits TRL has at once (trl.kernels.chunked_logprob)
LOGIT, LOGIT_IN_TILE = 16, 32  #: bytes of a logit without a fused kernel: with its gradient and the steps to it
DIRECT = 2**25  #: logits up to which a CPU computes them without tiles (forge/trainer/engines/arithmetic.py)
ADVICE = {
    "weights": 'take a smaller base, or method "qlora", which keeps it in 4 bit',
    "adapter": "lower r in the recipe",
    "activations": "lower max_length in the recipe",
    "logits": "lower max_length in the recipe",
}


class _Config(Frozen, extra="ignore"):
    """The part of a model's `config.json` from which its activations follow."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    head_dim: int | None = None
    vocab_size: int
    max_position_embeddings: int = 2**31


@dataclass(frozen=True)
class ModelSize:
    """A base model by its sizes. `linear` has (name, inputs, outputs) of every linear layer but the output."""

    config: _Config
    parameters: int
    linear: tuple[tuple[str, int, int], ...]

    def adapted(self, recipe: Recipe) -> list[tuple[int, int]]:
        """(inputs, outputs) of each layer that the recipe adapts."""
        every = recipe.target_modules == "all-linear"
        return [(inputs, outputs) for name, inputs, outputs in self.linear if every or name in recipe.target_modules]


@dataclass(frozen=True)
class Batch:
    """What one forward pass has in memory: rows, tokens of the longest one, trained tokens of those with most, in the mean."""

    rows: int
    length: int
    trained: int
    checkpointing: bool = False


class DoesNotFit(ValueError):
    """A training does not fit into memory, however few rows it has there at once; the message is a sentence."""


def read_size(base: Path) -> ModelSize | None:
    """Read a base's config and headers; None where they state too little. Raises OSError, ValueError."""
    raw = json.loads((base / CONFIG).read_bytes())
    try:
        config = _Config.model_validate(raw.get("text_config") or raw)
    except ValidationError:
        return None
    tensors = read_tensors(base)
    return ModelSize(config, sum(map(math.prod, tensors.values())), tuple(_linear(tensors)))


def longest_row(recipe: Recipe, size: ModelSize, longest: tuple[int, int]) -> int:
    """Tokens of the longest row that is trained; `longest` are those of all rows, and those that 99 of 100 do not exceed."""
    wanted = longest[recipe.max_length == "p99"]
    most = recipe.max_length if isinstance(recipe.max_length, int) else wanted
    return min(wanted, most, size.config.max_position_embeddings)


def fit(size: ModelSize, recipe: Recipe, longest: Batch, room: float, *, on_gpu: bool) -> tuple[Batch, dict[str, int]]:
    """The largest batch within `longest` that fits into `room` bytes, with its estimate.

    Fewer rows at once change nothing but the time; computing activations again takes a third more of it, so that comes
    after. Raises DoesNotFit.
    """
    for batch in _smaller(recipe, longest):
        terms = estimate(size, recipe, batch, on_gpu=on_gpu)
        if sum(terms.values()) <= room:
            return batch, terms
    raise DoesNotFit(_refusal(terms, batch, room))


def estimate(size: ModelSize, recipe: Recipe, batch: Batch, *, on_gpu: bool) -> dict[str, int]:
    """The memory of a training in bytes, by what takes it."""
    adapter = FLOAT * recipe.r * sum(inputs + outputs for inputs, outputs in size.adapted(recipe))
    batch = _passed(recipe, batch)
    layer, logits = _layer(size, recipe, batch, on_gpu=on_gpu), _logits(size, recipe, batch, on_gpu=on_gpu)
    if batch.checkpointing:  # each layer keeps its input; the logits are gone before a layer is computed again
        kept = size.config.num_hidden_layers * _width(recipe) * size.config.hidden_size * batch.rows * batch.length
        activations, logits = kept + layer, max(logits - layer, 0)
    else:
        activations = size.config.num_hidden_layers * layer
    pieces = PIECES_CHECKPOINTED if batch.checkpointing else PIECES
    if on_gpu or recipe.precision == "fp32":
        pieces = FRAGMENTED
    return {
        "weights": _weights(size, recipe),
        "adapter": adapter,
        "gradients": adapter,
        "optimizer": 2 * adapter,  # both moments of AdamW
        "activations": activations,
        "logits": logits,
        "allocator": LIBRARIES + round(pieces * (activations + logits)),
    }


def _passed(recipe: Recipe, batch: Batch) -> Batch:
    """What the loss passes through the model for these rows: both answers of a pair; an answer that the model makes."""
    if recipe.loss == "dpo":
        return replace(batch, rows=2 * batch.rows)
    if recipe.loss == "sdft":
        return replace(batch, length=batch.length + recipe.answer_tokens, trained=recipe.answer_tokens)
    return batch


def _weights(size: ModelSize, recipe: Recipe) -> int:
    if recipe.method == "lora":
        return _width(recipe) * size.parameters
    matrices = sum(inputs * outputs for _, inputs, outputs in size.linear)
    largest = max((inputs * outputs for _, inputs, outputs in size.linear), default=0)
    # One layer at a time is had in 16 bit.
    return round(FOUR_BIT * matrices) + HALF * (size.parameters - matrices + largest)


def _layer(size: ModelSize, recipe: Recipe, batch: Batch, *, on_gpu: bool) -> int:
    """What a layer keeps for its backward pass."""
    config, width = size.config, _width(recipe)
    heads, hidden, wide = config.num_attention_heads, config.hidden_size, config.intermediate_size
    attended = heads * (config.head_dim or hidden // heads)
    adapted = [inputs / config.num_hidden_layers for inputs, _ in size.adapted(recipe)]
    kept: float = 2 * FLOAT * hidden  # the inputs of both norms
    kept += width * (3 * attended + 3 * wide)  # queries, keys and values of every head; gate, its activation, up
    # What an adapted layer reads; with dropout each has a copy of its own, and what was dropped of it in float32.
    read = min(sum(adapted), 2 * hidden + attended + wide)
    kept += (FLOAT + width) * sum(adapted) if recipe.dropout else width * read
    kept += width * recipe.r * len(adapted) / config.num_hidden_layers
    if not on_gpu:  # there the fused kernel keeps no scores
        kept += (FLOAT + (width if width == HALF else 0)) * heads * batch.length
    return round(kept * batch.rows * batch.length)


def _logits(size: ModelSize, recipe: Recipe, batch: Batch, *, on_gpu: bool) -> int:
    if recipe.loss == "sdft":  # whole, of model and teacher
        return 2 * LOGIT * size.config.vocab_size * batch.rows * batch.trained
    (entries, tokens), scored, vocabulary = TILE, batch.rows * batch.trained, size.config.vocab_size
    if on_gpu:
        return HALF * entries * min(scored, tokens)
    if scored * vocabulary <= DIRECT:
        # The logits and their gradients are in the base's precision, what is between them in float32.
        return (LOGIT + 2 * (_width(recipe) - HALF)) * vocabulary * scored
    entries = min(entries, vocabulary)
    return entries * (LOGIT_IN_TILE * min(scored, tokens) + FLOAT * size.config.hidden_size)


def _width(recipe: Recipe) -> int:
    return HALF if recipe.precision == "bf16" else FLOAT


def _linear(tensors: dict[str, list[int]]) -> Iterator[tuple[str, int, int]]:
    for name, shape in tensors.items():
        layer = name.removesuffix(".weight").rpartition(".")[2]
        if name.endswith(".weight") and len(shape) == 2 and layer not in NOT_ADAPTED:
            yield layer, shape[1], shape[0]


def _smaller(recipe: Recipe, longest: Batch) -> Iterator[Batch]:
    for checkpointing in (False, True):
        if checkpointing >= longest.checkpointing:
            for rows in range(longest.rows, recipe.least_rows - 1, -1):
                if recipe.batch_size % rows == 0:
                    yield replace(longest, rows=rows, checkpointing=checkpointing)


def _refusal(terms: dict[str, int], batch: Batch, room: float) -> str:
    part = max(ADVICE, key=lambda term: terms.get(term, 0))
    needed, largest, given = (f"{number / GIB:.1f} GiB" for number in (sum(terms.values()), terms[part], room))
    return (
        f"the training does not fit into memory: with one row of {batch.length} tokens at once it needs {needed} and may take "
        f"{given}; the largest part are the {part} ({largest}): {ADVICE[part]}, or give it more memory (training.memory)"
    )
