"""Messages on the bus: a class for each kind, with the subject it is published on."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID, uuid5

from pydantic import model_validator

from shared.contracts.frozen import Storable
from shared.contracts.text import clean

RITUAL_NAMESPACE = UUID("6f1c1f0e-5d0a-5c3b-9a53-50f0f0a6e5d1")


class Message(Storable):
    """Anything published on the bus. A breaking change is a new subject, never an edit."""

    subject: ClassVar[str]


class Fact(Message):
    """Something that happened to a ritual, recorded once by the owner of the stage.

    `attempt` counts from 1 and grows when the GPU work is repeated. Characters that cannot be stored are replaced: a job's
    output must not keep a fact from being recorded.
    """

    step: ClassVar[str]  #: the name of the stage's span
    job: ClassVar[str | None] = None  #: the kind of job whose end the fact reports

    ritual: UUID
    persona: str
    attempt: int = 1

    @model_validator(mode="before")
    @classmethod
    def clean_texts(cls, values: Any) -> Any:
        return clean(values)

    @property
    def event_id(self) -> UUID:
        """The same for the same fact however often it is recorded; also the `Nats-Msg-Id`."""
        return event_id(self.ritual, self.subject, self.attempt)

    def details(self) -> dict[str, Any]:
        """The fields beyond those that name the ritual, as JSON values."""
        return self.model_dump(mode="json", exclude={"ritual", "persona", "attempt"})


def event_id(ritual: UUID, subject: str, attempt: int) -> UUID:
    return uuid5(ritual, f"{subject}/{attempt}")


def ritual_id(intent_id: str) -> UUID:
    """One intent id makes one ritual, wherever and however often it is received."""
    return uuid5(RITUAL_NAMESPACE, intent_id)
