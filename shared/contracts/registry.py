"""Stages 6 and 7, registration and awakening: a verified adapter becomes a version that serves. Recorded by the registry."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from shared.contracts.karma import PERSONA_PATTERN
from shared.contracts.message import Fact, Message
from shared.contracts.moment import Moment

RecallAction = Literal["warn", "withdraw", "withdraw_and_retrain"]


class Action(StrEnum):
    """What can be decided about a version of a persona."""

    PROMOTE = "promote"  #: it becomes the champion; the champion becomes the previous version
    REJECT = "reject"  #: a candidate that is not to become the champion
    ROLL_BACK = "roll_back"  #: the previous version becomes the champion again, and stays it until that is lifted
    RETIRE = "retire"  #: it is withdrawn for good; a champion's place goes to the previous version
    PIN = "pin"  #: the champion stays the champion until it is unpinned
    UNPIN = "unpin"  #: lifts a pin or a roll back: versions are promoted by policy again


class AdapterRegistered(Fact):
    """The bundle is frozen in the Crypt under its digest. The engine serves it under the name `version`."""

    subject: ClassVar[str] = "adapter.registered"
    step: ClassVar[str] = "register"

    adapter: str
    version: str
    bundle: str


class AdapterAwakened(Fact):
    """The version is loaded, was proven to be the one answering, and the alias points to it."""

    subject: ClassVar[str] = "adapter.awakened"
    step: ClassVar[str] = "awaken"

    adapter: str
    version: str
    alias: str
    previous: str | None = None
    probes: int


class AdapterProposed(Fact):
    """The version is loaded, was proven to be the one answering, and waits for its owner's approval until `until`."""

    subject: ClassVar[str] = "adapter.proposed"
    step: ClassVar[str] = "propose"

    adapter: str
    version: str
    champion: str | None = None
    until: Moment


class AdapterKept(Fact):
    """A good version that was not promoted, and why. It stays in the Crypt, and can be promoted by name."""

    subject: ClassVar[str] = "adapter.kept"
    step: ClassVar[str] = "keep"

    adapter: str
    version: str
    reason: str


class AdapterDecide(Message):
    """Decide about a version, as its owner. Refused where the champion is not `champion`.

    Answered by `adapter.decided` or `adapter.decide.refused`, whose `source` is this message's `Nats-Msg-Id`, by which it is
    obeyed once. What is refused is a dead letter as well.
    """

    subject: ClassVar[str] = "adapter.decide"

    action: Action
    persona: str = Field(pattern=PERSONA_PATTERN)
    version: str | None = Field(
        None, max_length=100, description="The version that is decided about; left out: the champion."
    )
    champion: str | None = Field(max_length=100, description="The champion as the sender knows it; null: none.")
    by: str = Field(min_length=1, max_length=200, description="Who decides.")
    why: str = Field("", max_length=2000, description="Reason; kept with the decision. An override needs one.")
    override: bool = Field(False, description="Promote a version that was banished or withdrawn all the same.")

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.version is None and self.action not in (Action.ROLL_BACK, Action.PIN, Action.UNPIN):
            raise ValueError(f"{self.action} needs the version that it is about")
        if self.override and not (self.action is Action.PROMOTE and self.why):
            raise ValueError("an override is of a promotion, and needs a reason (why)")
        return self


class AdapterDecided(Message):
    """A decision that was made about a persona's versions, by a person or by policy; `champion` is the one after it.

    `source` is the `adapter.decide` that asked for it: its id, or its place in the stream; null: none did.
    """

    subject: ClassVar[str] = "adapter.decided"

    persona: str
    action: str
    version: str | None
    champion: str | None
    by: str
    why: str
    override: bool
    source: str | None = None


class DecisionRefused(Message):
    """The decision that `source` asked for is not made, and why; nothing has changed."""

    subject: ClassVar[str] = "adapter.decide.refused"

    persona: str
    action: Action
    version: str | None
    by: str
    source: str
    refused: str


class AdapterTainted(Message):
    """A version was trained on records whose consent was withdrawn later; `action` is the policy that was applied."""

    subject: ClassVar[str] = "adapter.tainted"

    persona: str
    version: str
    karma: tuple[str, ...]
    action: RecallAction
    alias_withdrawn: bool
