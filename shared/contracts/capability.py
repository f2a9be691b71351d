"""Capabilities: which personas can be asked now, where, and by which name. Recorded by the gateway."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from pydantic import Field

from shared.contracts.message import Message
from shared.contracts.moment import Moment


class CapabilityAnnounced(Message):
    """A persona answers from now on, by this version. Replaces what was announced for the persona before."""

    subject: ClassVar[str] = "capability.announced"

    persona: str
    model: str = Field(description="Name to ask for at the address; it stays the same when another version serves.")
    version: str
    adapter: str = Field(description="Digest of the version's adapter.")
    ritual: UUID = Field(description="The ritual that made it.")
    base: str
    context_limit: int = Field(description="Longest request in tokens.")
    address: str = Field(description="Base URL of the OpenAI API that answers.")
    at: Moment = Field(description="Of two messages about a persona the later one holds.")


class CapabilityWithdrawn(Message):
    """A persona answers no more until it is announced again."""

    subject: ClassVar[str] = "capability.withdrawn"

    persona: str
    model: str
    version: str
    reason: str
    at: Moment = Field(description="Of two messages about a persona the later one holds.")
