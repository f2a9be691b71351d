"""When to decide about all records instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.harvester.statements import Step

FEW = 1000  # records that are always worth it
SHARE = 0.1  # of all records, above which it is not


class TooMuch(Exception):
    """The change affects too many records, or something that only all of them together tell."""


async def mind(step: Step, name: str, records: int) -> int:
    """How many rows the table has. Raises TooMuch."""
    rows = int(await step.value(f"SELECT count(*) FROM {{{name}}}"))
    if rows > max(FEW, int(SHARE * records)):
        raise TooMuch(f"{rows} of {records} records are affected ({name})")
    return rows
