"""What readers may see of the gateway: the capabilities that it announced. Works on any connection, and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from shared.storage.postgres import Source


@dataclass(frozen=True, slots=True)
class AnnouncedCapability:
    """A persona that answers, as `model` at `address`, by `version`. `context_limit` in tokens, `adapter` a digest."""

    persona: str
    model: str
    version: str
    adapter: str
    ritual: UUID
    base: str
    context_limit: int
    address: str
    announced_at: datetime


async def list_capabilities(source: Source) -> list[AnnouncedCapability]:
    """Every capability, by persona."""
    rows = await source.fetch(
        "SELECT persona, model, version, adapter, ritual, base, context_limit, address, announced_at "
        "FROM gateway.capability ORDER BY persona"
    )
    return [AnnouncedCapability(**row) for row in rows]
