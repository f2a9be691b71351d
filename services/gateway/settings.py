"""`[gateway]`: what one client of the models may cost."""

from __future__ import annotations

import ipaddress
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import ByteSize, Field, field_validator

from shared.config.tables import MIB, SecretFile, Section, Size
from shared.contracts.frozen import Frozen


class PortalSettings(Frozen):
    """What answers for personas that may leave the home, while no engine can."""

    url: str = Field(description="Address of an OpenAI-compatible server, by https or on loopback, with its /v1.")
    key_file: SecretFile = Field(description="File with its key, which only its owner can read.")
    model: str = Field(min_length=1, description="Name of its model, in place of the persona's.")
    daily_tokens: int = Field(ge=1, description="Tokens of prompts and answers that it may cost in a day (UTC).")

    @field_validator("url")
    @classmethod
    def _cannot_be_read_by_others(cls, url: str) -> str:
        parts = urlsplit(url)
        if not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError("must be plain ASCII without spaces: write a host of other letters as xn--…")
        if parts.username or parts.query or parts.fragment or not parts.hostname:
            raise ValueError("must be an address like https://host/v1, without a key in it")
        if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname)):
            raise ValueError("must begin with https://; http:// is for this machine's own addresses")
        return url


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class GatewaySettings(Section):
    table: ClassVar[str] = "gateway"

    max_body: Size = Field(
        ByteSize(4 * MIB), gt=0, description="Largest request. Sixteen of that size may be under way at once."
    )
    max_file: Size = Field(ByteSize(512 * MIB), gt=0, description="Largest file that a client may upload.")
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
    portal: PortalSettings | None = None
