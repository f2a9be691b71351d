"""The recipe: how an adapter is trained. It is validated before the anvil is taken, against what the serving engine accepts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from shared.config.errors import Fault, read_toml, refusal, validated
from shared.contracts.frozen import Frozen

SHIPPED = Path(__file__).parent / "recipes"
# vLLM 0.32, config/lora.py: any other rank is refused, and so is one above `--max-lora-rank` (16 by default).
Rank = Literal[1, 8, 16, 32, 64, 128, 256, 320, 512]
SERVED_RANK = 16


class Recipe(Frozen):
    """Plain LoRA on every linear layer. DoRA, biases, extra saved modules and foreign inits are not offered: vLLM refuses them."""

    method: Literal["lora"] = "lora"
    r: Rank = Field(16, description="Rank of the adapter.")
    alpha: int = Field(32, gt=0, description="Scale: the update counts alpha / r times.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of adapter inputs dropped in training.")
    target_modules: Literal["all-linear"] | tuple[str, ...] = Field(
        "all-linear", description="Layers that are adapted."
    )
    learning_rate: float = Field(2e-4, gt=0, description="Peak learning rate.")
    epochs: float = Field(2, gt=0, le=100, description="Passes over the training rows.")
    batch_size: int = Field(8, gt=0, le=256, description="Rows a step.")
    warmup_ratio: float = Field(0.05, ge=0, lt=1, description="Share of the steps over which the rate rises.")
    max_length: Literal["auto"] | Annotated[int, Field(gt=0)] = Field(
        "auto", description="Longest row in tokens, longer ones are refused; auto: the model's context."
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seed, where the job names none.")
    replay: float = Field(
        0.15, ge=0, le=1, description="Trained tokens of the base's own answers, as a share of those of the rows."
    )
    checkpoint_steps: int = Field(
        20, gt=0, description="Steps between two checkpoints, each with a look at the dev loss."
    )
    keep_best: bool = Field(
        True, description="End with the checkpoint of least dev loss, stop when it has risen twice."
    )


def load_recipe(recipe: str | Path, max_rank: int = SERVED_RANK) -> Recipe:
    """A recipe by the name of a shipped one, or from a TOML file. `max_rank` is what the serving engine was started with.

    Raises ConfigurationError.
    """
    path = recipe if isinstance(recipe, Path) else SHIPPED / f"{recipe}.toml"
    shipped = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.toml")))
    loaded = validated(path, read_toml(path, f"shipped recipes are {shipped}"), Recipe)
    if loaded.r > max_rank:
        raise refusal(str(path), [Fault(("r",), f"is {loaded.r}, but the serving engine takes at most {max_rank}")])
    return loaded
