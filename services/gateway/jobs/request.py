"""The body of a request for a job. What cannot be honoured is refused by the name of its parameter, before anything is stored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from services.gateway.errors import Refusal
from shared.contracts.frozen import Storable
from shared.contracts.intent import RecipeOverrides

CODES = {"missing": "missing_required_parameter", "extra_forbidden": "unknown_parameter"}
ASKED_AS = {"epochs": "n_epochs"}  # the recipe's names
NO_REINFORCEMENT = "`method.type` must be supervised or dpo: the forge learns from no grader"
NO_INTEGRATIONS = (
    "`integrations` must be left out: nothing is sent to another service. The losses are events of the job, and the ritual's "
    "trace is in Phoenix"
)
FileId = Annotated[str, Field(pattern=r"^file-[A-Za-z0-9_-]{1,80}$")]


class Hyperparameters(Storable):
    """Values in place of the recipe's; null, or `auto`: the recipe's."""

    n_epochs: Annotated[int, Field(strict=True, ge=1)] | None = None
    batch_size: Annotated[int, Field(strict=True, ge=1)] | None = None
    learning_rate_multiplier: Annotated[float, Field(strict=True, gt=0)] | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _auto(cls, value: Any) -> Any:
        return None if value == "auto" else value

    def describe(self) -> dict[str, Any]:
        return {name: "auto" if value is None else value for name, value in self}


class DpoHyperparameters(Hyperparameters):
    beta: Annotated[float, Field(strict=True, gt=0)] | None = None


class Supervised(Storable):
    hyperparameters: Hyperparameters | None = None


class Dpo(Storable):
    hyperparameters: DpoHyperparameters | None = None


class Method(Storable):
    """`reinforcement` is known by name only, so that the refusal is about the method."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None
    reinforcement: Any = None


class JobRequest(Storable):
    """A request for a job, in OpenAI's form."""

    model: str = Field(min_length=1, max_length=200)
    training_file: FileId
    validation_file: FileId | None = None
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
    suffix: str | None = Field(None, max_length=64)
    seed: int | None = Field(None, strict=True, ge=0, lt=2**31)
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] | None = Field(
        None, max_length=16
    )
    integrations: list[Any] | None = None

    @property
    def persona(self) -> str | None:
        return (self.metadata or {}).get("persona") or self.suffix

    @property
    def learns_preferences(self) -> bool:
        return self.method is not None and self.method.type == "dpo"

    @property
    def recipe(self) -> str:
        """The shipped recipe that trains it."""
        return "dpo" if self.learns_preferences else "default"

    @property
    def chosen(self) -> Hyperparameters:
        """The hyperparameters, wherever they are given."""
        if self.method and self.method.type == "dpo":
            return (self.method.dpo and self.method.dpo.hyperparameters) or DpoHyperparameters()
        of_method = self.method.supervised.hyperparameters if self.method and self.method.supervised else None
        return of_method or self.hyperparameters or Hyperparameters()

    @property
    def overrides(self) -> RecipeOverrides | None:
        """What is changed of the recipe. Raises ValidationError for values beyond its ranges."""
        chosen = self.chosen.model_dump(exclude_none=True)
        if "n_epochs" in chosen:
            chosen["epochs"] = chosen.pop("n_epochs")
        return RecipeOverrides(**chosen) if chosen else None


def parse_request(fields: dict[str, Any]) -> JobRequest:
    """Raise Refusal for what is not a request for a job, or one that cannot be honoured."""
    try:
        request = JobRequest.model_validate(fields)
    except ValidationError as wrong:
        raise refuse_field(wrong) from None
    except (RecursionError, ValueError):
        raise Refusal(400, "invalid_value", "the request is nested too deeply, or holds a number too large") from None
    if request.method and request.method.type == "reinforcement":
        raise Refusal(400, "unsupported_method", NO_REINFORCEMENT, param="method.type")
    for name in ("supervised", "dpo", "reinforcement"):
        if request.method and name != request.method.type and getattr(request.method, name) is not None:
            message = f"`method.{name}` must be left out where `method.type` is {request.method.type}"
            raise Refusal(400, "unsupported_parameter", message, param=f"method.{name}")
    if request.integrations:
        raise Refusal(400, "unsupported_parameter", NO_INTEGRATIONS, param="integrations")
    if request.hyperparameters and request.method:
        message = (
            "`hyperparameters` and `method` are both given: give the values in the `hyperparameters` of the method only"
        )
        raise Refusal(400, "invalid_value", message, param="hyperparameters")
    if request.training_file == request.validation_file:
        message = "`validation_file` is the training file: what is trained on measures nothing"
        raise Refusal(400, "invalid_value", message, param="validation_file")
    return request


def refuse_field(wrong: ValidationError, within: str = "") -> Refusal:
    """The refusal of the first field that is wrong."""
    first = wrong.errors(include_input=False)[0]
    param = ".".join(filter(None, (within, *(ASKED_AS.get(str(part), str(part)) for part in first["loc"]))))
    reason = "is not a parameter of a job" if first["type"] == "extra_forbidden" else first["msg"]
    return Refusal(
        400, CODES.get(first["type"], "invalid_value"), f"`{param[:200]}`: {reason}", param=param[:200] or None
    )
