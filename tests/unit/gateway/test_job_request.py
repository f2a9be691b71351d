"""What a request for a job may ask for; everything else is refused by its name."""

from __future__ import annotations

from typing import Any

import pytest

from services.gateway.errors import Refusal
from services.gateway.jobs.request import parse_request
from shared.contracts.intent import RecipeOverrides

LEAST = {"model": "base", "training_file": "file-a", "suffix": "scribe"}


def body(**fields: Any) -> dict[str, Any]:
    return {**LEAST, **fields}


def supervised(**hyperparameters: Any) -> dict[str, Any]:
    return {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}


def dpo(**hyperparameters: Any) -> dict[str, Any]:
    return {"type": "dpo", "dpo": {"hyperparameters": hyperparameters}}


def test_dpo_trains_by_its_own_recipe_and_its_beta_is_the_recipes() -> None:
    request = parse_request(body(method=dpo(beta=0.3, n_epochs=2, batch_size="auto")))

    assert (request.recipe, request.overrides) == ("dpo", RecipeOverrides(beta=0.3, epochs=2))
    assert request.chosen.describe() == {
        "n_epochs": 2,
        "batch_size": "auto",
        "learning_rate_multiplier": "auto",
        "beta": 0.3,
    }
    assert parse_request(body(method={"type": "dpo"})).overrides is None
    assert parse_request(body(method=supervised())).recipe == parse_request(body()).recipe == "default"


def test_hyperparameters_override_the_recipe_wherever_they_are_given() -> None:
    given = {"n_epochs": 3, "batch_size": "auto", "learning_rate_multiplier": 0.5}
    expected = RecipeOverrides(epochs=3, learning_rate_multiplier=0.5)

    assert parse_request(body(hyperparameters=given)).overrides == expected
    assert parse_request(body(method=supervised(**given))).overrides == expected
    assert parse_request(body(method=supervised(n_epochs="auto"))).overrides is None
    assert parse_request(body()).overrides is None
    assert parse_request(body(method=supervised(**given))).chosen.describe() == given


def test_the_persona_is_named_by_the_metadata_before_the_suffix() -> None:
    assert parse_request(body(metadata={"persona": "coder", "run": "7"})).persona == "coder"
    assert parse_request(body(metadata={"run": "7"})).persona == "scribe"


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"training_file": None}, "training_file", "invalid_value"),
        ({"training_file": "/etc/passwd"}, "training_file", "invalid_value"),
        ({"training_file": "https://example.org/a.jsonl"}, "training_file", "invalid_value"),
        ({"validation_file": "../file-a"}, "validation_file", "invalid_value"),
        ({"validation_file": "file-a"}, "validation_file", "invalid_value"),
        ({"lora_rank": 8}, "lora_rank", "unknown_parameter"),
        ({"hyperparameters": {"warmup": 1}}, "hyperparameters.warmup", "unknown_parameter"),
        ({"method": supervised(beta=0.1)}, "method.supervised.hyperparameters.beta", "unknown_parameter"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", "invalid_value"),
        ({"hyperparameters": {"n_epochs": "three"}}, "hyperparameters.n_epochs", "invalid_value"),
        ({"hyperparameters": {"batch_size": True}}, "hyperparameters.batch_size", "invalid_value"),
        ({"hyperparameters": {"n_epochs": 1}, "method": supervised()}, "hyperparameters", "invalid_value"),
        ({"method": dpo(beta=0)}, "method.dpo.hyperparameters.beta", "invalid_value"),
        ({"method": dpo() | {"supervised": {}}}, "method.supervised", "unsupported_parameter"),
        ({"hyperparameters": {"n_epochs": 1}, "method": dpo()}, "hyperparameters", "invalid_value"),
        ({"method": {"type": "reinforcement"}}, "method.type", "unsupported_method"),
        ({"method": {"type": "supervised", "dpo": {}}}, "method.dpo", "unsupported_parameter"),
        ({"method": {"type": "supervised", "reinforcement": 0}}, "method.reinforcement", "unsupported_parameter"),
        ({"method": {"type": "magic"}}, "method.type", "invalid_value"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "integrations", "unsupported_parameter"),
        ({"seed": -1}, "seed", "invalid_value"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata", "invalid_value"),
        ({"suffix": "a\x00"}, "suffix", "invalid_value"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_its_name(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse_request(body(**fields))

    assert (refused.value.status, refused.value.param, refused.value.code) == (400, param, code)
    assert param.rpartition(".")[2] in str(refused.value)


def test_a_missing_parameter_is_named() -> None:
    with pytest.raises(Refusal, match="training_file") as refused:
        parse_request({"model": "base"})

    assert (refused.value.code, refused.value.param) == ("missing_required_parameter", "training_file")


def test_a_value_beyond_the_recipe_s_range_is_found_before_the_job() -> None:
    with pytest.raises(ValueError, match="epochs"):
        _ = parse_request(body(hyperparameters={"n_epochs": 1000})).overrides


def test_what_is_nested_too_deeply_is_refused() -> None:
    nested: Any = {}
    for _ in range(5000):
        nested = {"a": nested}

    with pytest.raises(Refusal) as refused:
        parse_request(body(method={"type": "supervised", "dpo": nested}))

    assert refused.value.status == 400
