"""Soulforge's own form: a record says everything itself, see `shared.contracts.karma.KarmaRecord`."""

from __future__ import annotations

from typing import Any

from deploy.cli.import_formats.record import Wrong, items
from shared.contracts.karma import KarmaRecord

OWN_FIELDS = frozenset(("persona", "session", "status", "outcome", "consecrated_by", "parent", "purposes"))
LONGEST_NAME = 200  # what an index of the chamber holds safely
YEARS = range(1970, 9999)  # a time in seconds or milliseconds that was misread falls outside; PostgreSQL holds these


def matches(values: dict[str, Any]) -> bool:
    return not OWN_FIELDS.isdisjoint(values)


def read(values: dict[str, Any]) -> KarmaRecord:
    """Raises Wrong, and pydantic's ValidationError."""
    if "messages" not in values:
        raise Wrong("no messages")
    if not items(values["messages"], "messages"):
        raise Wrong("messages are empty")
    record = KarmaRecord.model_validate(values)
    if record.parent is not None and len(record.parent) > LONGEST_NAME:
        raise Wrong(f"parent: longer than {LONGEST_NAME} characters")
    for name in ("created_at", "consecrated_at"):
        if (time := getattr(record, name)) is not None and time.year not in YEARS:
            raise Wrong(f"{name}: not between the years {YEARS.start} and {YEARS.stop - 1}")
    return record
