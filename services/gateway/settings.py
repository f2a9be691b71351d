"""`[gateway]`: what one client of the models may cost."""

from __future__ import annotations

from typing import ClassVar

from pydantic import ByteSize, Field

from shared.config.tables import MIB, Section, Size


class GatewaySettings(Section):
    table: ClassVar[str] = "gateway"

    max_body: Size = Field(
        ByteSize(4 * MIB), gt=0, description="Largest request. Sixteen of that size may wait at once."
    )
    connections: int = Field(256, ge=1, description="Connections of clients at once; further ones are answered 503.")
    read_within_s: float = Field(
        30.0, gt=0, description="Time a client may take to send a request's head, and again its body."
    )
    write_within_s: float = Field(30.0, gt=0, description="Time a client may take to read what waits for it.")
    waiting: int = Field(64, ge=0, description="Requests that may wait for an engine that is away.")
    wait_s: float = Field(
        30.0,
        ge=0,
        le=600,
        description="Longest wait of such a request. It is refused at once where the engine is not expected before.",
    )
    answer_within_s: float = Field(600.0, gt=0, description="Longest silence of an engine that works on a request.")
