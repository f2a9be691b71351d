"""The forms in which others keep conversations, one module each, and how each becomes a karma record."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from deploy.cli.import_formats import alpaca, openai, sharegpt
from deploy.cli.import_formats.record import Wrong, as_record, items
from shared.contracts.karma import KarmaRecord

if TYPE_CHECKING:
    from deploy.cli.import_formats.record import Given


class Form(StrEnum):
    """How a record is written; `auto` looks at every record by itself."""

    AUTO = "auto"
    KARMA = "karma"
    OPENAI = "openai"
    SHAREGPT = "sharegpt"
    ALPACA = "alpaca"


OWN_FIELDS = frozenset(("persona", "session", "status", "outcome", "consecrated_by", "parent", "purposes"))
LONGEST_NAME = 200  # what an index of the chamber holds safely
YEARS = range(1970, 9999)  # a time in seconds or milliseconds that was misread falls outside; PostgreSQL holds these
FOREIGN = {Form.OPENAI: openai, Form.SHAREGPT: sharegpt, Form.ALPACA: alpaca}


def read(values: dict[str, Any], form: Form, given: Given) -> KarmaRecord:
    """The record that these values say in this form. Raises Wrong, and pydantic's ValidationError for own records."""
    if form is Form.AUTO:
        form = detect(values)
    if form is Form.KARMA:
        return _own(values)
    return as_record(FOREIGN[form].conversation(values), values, given)


def detect(values: dict[str, Any]) -> Form:
    """The form by the names of the fields. Raises Wrong where they fit none."""
    if not OWN_FIELDS.isdisjoint(values):
        return Form.KARMA
    for form, module in FOREIGN.items():
        if module.matches(values):
            return form
    raise Wrong("no messages, conversations or instruction: not in a form that is known")


def _own(values: dict[str, Any]) -> KarmaRecord:
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
