"""What the files of a base state, and the recipes that do not fit it."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from shared.config.model import embedded
from shared.config.recipe import Recipe
from shared.config.settings import Settings
from shared.config.tables import BaseConfig
from shared.storage.base_model import BaseError, Bases
from shared.storage.base_shape import expect_fit, misfit, read_shape

TENSORS = {
    "model.embed_tokens.weight": [100, 8],
    "model.layers.0.self_attn.q_proj.weight": [8, 8],
    "model.layers.0.mlp.up_proj.weight": [16, 8],
    "model.layers.0.input_layernorm.weight": [8],
}


def base(folder: Path, config: dict[str, Any] | None = None, tensors: dict[str, list[int]] = TENSORS) -> Path:
    folder.mkdir()
    stated = {"architectures": ["LlamaForCausalLM"]} if config is None else config
    (folder / "config.json").write_text(json.dumps(stated))
    header = json.dumps(
        {"__metadata__": {}} | {name: {"dtype": "BF16", "shape": shape} for name, shape in tensors.items()}
    )
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode())
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


def test_size_and_layers_are_read_from_the_headers(tmp_path: Path) -> None:
    shape = read_shape(base(tmp_path / "base"))
    assert (shape.parameters, shape.linear) == (800 + 64 + 128 + 8, frozenset({"q_proj", "up_proj"}))


@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "up_proj")])
def test_a_recipe_of_layers_that_the_base_has_fits(tmp_path: Path, targets: Any) -> None:
    assert misfit(Recipe(target_modules=targets), read_shape(base(tmp_path / "base"))) is None


def test_a_template_in_the_tokenizers_configuration_is_one(tmp_path: Path) -> None:
    folder = base(tmp_path / "base")
    (folder / "chat_template.jinja").unlink()
    assert "no chat template" in str(misfit(Recipe(), read_shape(folder)))
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    assert misfit(Recipe(), read_shape(folder)) is None


@pytest.mark.parametrize(
    ("config", "recipe", "why"),
    [
        (None, Recipe(target_modules=("w1", "q_proj")), "names w1, which the base does not have: .* q_proj, up_proj"),
        (None, Recipe(target_modules=("embed_tokens",)), "names embed_tokens"),
        ({"architectures": ["BertForMaskedLM"]}, Recipe(), "a BertForMaskedLM, which is no language model"),
        ({"architectures": ["QForCausalLM"], "quantization_config": {"bits": 4}}, Recipe(), "full-precision weights"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, config: dict[str, Any] | None, recipe: Recipe, why: str) -> None:
    reason = misfit(recipe, read_shape(base(tmp_path / "base", config)))
    assert reason and re.search(why, reason)


def test_a_base_that_states_nothing_is_left_to_the_trainer(tmp_path: Path) -> None:
    assert misfit(Recipe(), read_shape(base(tmp_path / "base", {}))) is None


@pytest.mark.parametrize("content", [b"", b"\xff" * 16, struct.pack("<Q", 4) + b"none"])
def test_weights_that_cannot_be_read_are_named(tmp_path: Path, content: bytes) -> None:
    folder = base(tmp_path / "base")
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(BaseError, match="cannot be read"):
        read_shape(folder)


async def test_a_recipe_is_checked_against_the_base_that_is_there_and_unchanged(tmp_path: Path) -> None:
    folder = base(tmp_path / "mine")
    declared = embedded().model_copy(update={"bases": {"mine": BaseConfig(path=folder)}})

    def bases() -> Bases:
        return Bases(Settings(home=tmp_path / "home"), declared)

    await expect_fit(Recipe(), bases(), "mine")
    await expect_fit(Recipe(), bases(), "nowhere")
    with pytest.raises(BaseError, match="it does not fit base mine: target_modules names w1"):
        await expect_fit(Recipe(target_modules=("w1",)), bases(), "mine")
    (folder / "chat_template.jinja").write_text("another")
    with pytest.raises(BaseError, match="has changed"):
        await expect_fit(Recipe(), bases(), "mine")
