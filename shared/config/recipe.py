"""The recipe: how an adapter is trained. It is validated before the anvil is taken, against what the serving engine accepts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from shared.config.errors import ConfigurationError, Fault, read_toml, refusal, validated
from shared.contracts.frozen import Frozen
from shared.contracts.intent import RecipeOverrides

SHIPPED = Path(__file__).parent / "recipes"
AUTO = "auto"  #: the recipe whose values follow from the data and the base
# vLLM 0.32, config/lora.py: any other rank is refused, and so is one above `--max-lora-rank` (16 by default).
Rank = Literal[1, 8, 16, 32, 64, 128, 256, 320, 512]
SERVED_RANK = 16
LossName = Literal["sft", "dpo", "kto", "sdft"]
#: Losses that each of these values is for; with another loss only the default is taken.
ONLY_FOR: dict[str, frozenset[LossName]] = {
    "beta": frozenset({"dpo", "kto"}),
    "sft_weight": frozenset({"dpo"}),
    "answer_tokens": frozenset({"sdft"}),
}


class Recipe(Frozen):
    """A LoRA of the base. DoRA, biases, extra saved modules and foreign inits are not offered: vLLM refuses them."""

    engine: Literal["auto", "trl", "unsloth"] = Field(
        "auto", description="What trains it; auto: the fastest that is installed, by a measurement where one pays."
    )
    method: Literal["lora", "qlora"] = Field(
        "lora", description="qlora: on a base in 4 bit, which `unsloth` alone does."
    )
    loss: LossName = Field(
        "sft",
        description="sft: the rows' answers. dpo: pairs of a chosen and a rejected answer. kto: answers with a thumb up or "
        "down, and both answers of each pair. sdft: the model's own answers, brought to what it would answer if it saw the "
        "accepted answer and why it was.",
    )
    beta: float = Field(
        0.1, gt=0, le=2, description="dpo, kto: how strongly the model is kept near the base; more is nearer."
    )
    sft_weight: float = Field(
        1.0,
        ge=0,
        le=10,
        description="dpo: weight of the chosen answers' own loss, without which they may become less likely too.",
    )
    answer_tokens: int = Field(256, gt=0, description="sdft: most tokens of an answer that the model makes of its own.")
    r: Rank = Field(16, description="Rank of the adapter.")
    alpha: int = Field(32, gt=0, description="Scale: the update counts alpha / r times.")
    rslora: bool = Field(
        False, description="Rank-stabilised scale: alpha / √r instead, for ranks of 64 and more. It also forgets more."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of adapter inputs dropped in training.")
    target_modules: Literal["all-linear"] | tuple[str, ...] = Field(
        "all-linear", description="Layers that are adapted: all linear ones but the output, or those of these names."
    )
    precision: Literal["bf16", "fp32"] = Field(
        "bf16", description="Of the frozen base and its arithmetic; the adapter is always trained in float32."
    )
    learning_rate: float = Field(2e-4, gt=0, description="Peak learning rate.")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="Course of the rate after its rise: it falls to 0, or stays."
    )
    warmup_ratio: float = Field(0.05, ge=0, lt=1, description="Share of the steps over which the rate rises.")
    weight_decay: float = Field(0.0, ge=0, lt=1, description="Decay of the adapter's weights, decoupled (AdamW).")
    max_grad_norm: float = Field(
        1.0, ge=0, description="Norm above which the gradient of a step is scaled down to it; 0: never."
    )
    epochs: float = Field(2, gt=0, le=100, description="Passes over the training rows.")
    tokens: int | None = Field(
        None, gt=0, description="Most tokens to train on, replay included: the passes end where they are reached."
    )
    seconds: float | None = Field(
        None,
        gt=0,
        description="Most seconds of training, those of earlier attempts included: the run ends with the step that reaches them.",
    )
    joules: float | None = Field(
        None,
        gt=0,
        description="Most energy of training in joules, by the device's own counter; refused where it has none that can be read.",
    )
    batch_size: int = Field(8, gt=0, le=256, description="Rows a step.")
    micro_batch: int = Field(
        256, gt=0, le=256, description="Most rows in memory at once: a step is split, its result is the same."
    )
    group_by_length: bool = Field(True, description="Rows of similar length in one step: less padding.")
    max_length: Literal["auto", "p99"] | Annotated[int, Field(gt=0)] = Field(
        "auto",
        description="Longest row in tokens. Longer ones are left out whole, counted and named; none is cut. "
        "auto: the base's context; p99: the length that 99 of 100 rows do not exceed.",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seed, where the job names none.")
    replay: float = Field(
        0.15, ge=0, le=1, description="Trained tokens of the base's own answers, as a share of those of the rows."
    )
    checkpoint_steps: int = Field(20, gt=0, description="Steps between two checkpoints, each with its dev loss.")
    keep_best: bool = Field(True, description="End with the checkpoint of least dev loss, else with the last one.")
    patience: int = Field(
        2, ge=0, description="Checkpoints in a row without a lower dev loss after which a run ends; 0: it never does."
    )
    divergence: float = Field(
        2.0,
        gt=0,
        description="Nats per token by which the mean loss of 10 steps may be above that of the first 10. A run beyond it, "
        "or of a loss that is no number, fails for good.",
    )

    @model_validator(mode="after")
    def has_what_its_loss_takes(self) -> Recipe:
        for name, losses in ONLY_FOR.items():
            if self.loss not in losses and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f'{name} has no meaning with loss "{self.loss}": leave it out')
        if self.loss != "sft" and self.replay:
            raise ValueError(f'loss "{self.loss}" trains no answers of the base: set replay = 0')
        if self.rows_at_once < self.least_rows or self.batch_size % self.least_rows:
            raise ValueError('loss "kto" compares rows in memory: batch_size must be even, and micro_batch 2 at least')
        return self

    @property
    def least_rows(self) -> int:
        """The fewest rows of one forward pass: the estimate of KTO needs another row's answer."""
        return 2 if self.loss == "kto" else 1

    @property
    def rows_at_once(self) -> int:
        """Rows of one forward pass: the largest divisor of `batch_size` within `micro_batch`."""
        return next(
            rows for rows in range(min(self.micro_batch, self.batch_size), 0, -1) if self.batch_size % rows == 0
        )

    @property
    def accumulation(self) -> int:
        """Forward passes of a step."""
        return self.batch_size // self.rows_at_once

    def shared_by(self, workers: int) -> Recipe:
        """The recipe with forward passes of equal shares of a step. Raises ConfigurationError where there are none."""
        share, rest = divmod(self.batch_size, workers)
        if rest:
            raise ConfigurationError(
                f"a step of {self.batch_size} rows has no equal shares for {workers} workers: take a recipe whose batch_size is a "
                "multiple of workers under [jobs.forge] in soulforge.toml"
            )
        rows = next(rows for rows in range(min(share, self.micro_batch), 0, -1) if share % rows == 0)
        return self.model_copy(update={"micro_batch": rows})

    def passes(self, tokens: int) -> float:
        """Passes over training data of so many tokens, within both `epochs` and the budget of tokens."""
        return self.epochs if self.tokens is None else min(self.epochs, self.tokens / tokens)


def load_recipe(recipe: str | Path, max_rank: int = SERVED_RANK, own: Path | None = None) -> Recipe:
    """A recipe from a TOML file, or by name: from the owner's folder, else a shipped one.

    `max_rank` is what the serving engine was started with. Raises ConfigurationError.
    """
    path = recipe if isinstance(recipe, Path) else _find(recipe, own)
    loaded = validated(path, read_toml(path, f"known recipes are {', '.join(list_recipes(own))}"), Recipe)
    if loaded.r > max_rank:
        raise refusal(str(path), [Fault(("r",), f"is {loaded.r}, but the serving engine takes at most {max_rank}")])
    return loaded


def list_recipes(own: Path | None = None) -> list[str]:
    """The names of all recipes: the shipped ones, and those of the owner's folder."""
    folders = (SHIPPED, *([own] if own else []))
    return sorted({file.stem for folder in folders for file in folder.glob("*.toml")})


def _find(name: str, own: Path | None) -> Path:
    file = f"{name}.toml"
    return own / file if own and (own / file).is_file() else SHIPPED / file


def with_overrides(recipe: Recipe, overrides: RecipeOverrides | None) -> Recipe:
    """The recipe with what one ritual changes of it, within the recipe's own bounds. Raises ConfigurationError."""
    if overrides is None:
        return recipe
    changed = overrides.model_dump(exclude_none=True)
    multiplier = changed.pop("learning_rate_multiplier", 1.0)
    changed["learning_rate"] = recipe.learning_rate * multiplier
    return validated(Path("overrides"), recipe.model_dump() | changed, Recipe)
