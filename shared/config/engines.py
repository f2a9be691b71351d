"""Which training engines a recipe may run on here; one that none can train is refused before the anvil is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.config.errors import ConfigurationError

if TYPE_CHECKING:
    from shared.config.recipe import LossName, Recipe
    from shared.config.tables import JobsConfig
    from shared.contracts.forge import EngineName

METHODS: dict[EngineName, frozenset[str]] = {"trl": frozenset({"lora"}), "unsloth": frozenset({"lora", "qlora"})}
LOSSES: dict[EngineName, frozenset[LossName]] = {
    "trl": frozenset({"sft", "dpo", "kto", "sdft"}),
    "unsloth": frozenset({"sft"}),
}
INSTALL = "run `make setup-unsloth`, or set python under [jobs.unsloth] in soulforge.toml"


def list_engines(recipe: Recipe, jobs: JobsConfig) -> tuple[EngineName, ...]:
    """The engines to choose from: the one that the recipe names, or all that are here and can train it, `trl` first.

    Raises ConfigurationError where there is none.
    """
    named: tuple[EngineName, ...] = ("trl", "unsloth") if recipe.engine == "auto" else (recipe.engine,)
    able = tuple(engine for engine in named if not refused(engine, recipe))
    if not able:
        raise ConfigurationError("; ".join(str(refused(engine, recipe)) for engine in named))
    if jobs.forge.executor == "ray":
        return _on_ray(recipe, able, jobs)
    here = tuple(engine for engine in able if engine == "trl" or not jobs.environment(engine).missing)
    if not here:
        missing = jobs.environment("unsloth").python
        raise ConfigurationError(
            f'method "{recipe.method}" with engine "{recipe.engine}" needs unsloth, which is not installed '
            f"({missing} is missing): {INSTALL}"
        )
    return here


def refused(engine: EngineName, recipe: Recipe) -> str | None:
    """Why an engine cannot train a recipe, wherever it is installed; None where it can."""
    if recipe.method not in METHODS[engine]:
        return f'engine "{engine}" does not train method "{recipe.method}": take engine "unsloth", or method "lora"'
    if recipe.loss not in LOSSES[engine]:
        return f'engine "{engine}" does not train loss "{recipe.loss}": take engine "trl", or loss "sft"'
    return None


def _on_ray(recipe: Recipe, able: tuple[EngineName, ...], jobs: JobsConfig) -> tuple[EngineName, ...]:
    """`trl`, which alone trains in workers. Raises ConfigurationError where it cannot."""
    if "trl" not in able or recipe.loss != "sft" or recipe.joules:
        raise ConfigurationError(
            'executor "ray" runs engine "trl" with loss "sft", without a budget of joules: take such a recipe, or set '
            'executor = "local" under [jobs.forge] in soulforge.toml'
        )
    if jobs.training("trl").missing:
        raise ConfigurationError(
            f'executor "ray" needs ray, which is not installed ({jobs.forge.python} is missing): run `make setup-ray`, or set '
            "python under [jobs.forge] in soulforge.toml"
        )
    recipe.shared_by(jobs.forge.workers)
    return ("trl",)
