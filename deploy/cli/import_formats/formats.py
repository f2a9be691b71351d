"""The forms in which others keep conversations, one module each, and how each becomes a karma record."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from deploy.cli.import_formats import alpaca, openai, sharegpt, soulforge
from deploy.cli.import_formats.record import Wrong, as_record

if TYPE_CHECKING:
    from deploy.cli.import_formats.record import Given
    from shared.contracts.karma import KarmaRecord


class Form(StrEnum):
    """How a record is written; `auto` looks at every record by itself."""

    AUTO = "auto"
    KARMA = "karma"
    OPENAI = "openai"
    SHAREGPT = "sharegpt"
    ALPACA = "alpaca"


FOREIGN = {Form.OPENAI: openai, Form.SHAREGPT: sharegpt, Form.ALPACA: alpaca}


def read(values: dict[str, Any], form: Form, given: Given) -> KarmaRecord:
    """The record that these values say in this form. Raises Wrong, and pydantic's ValidationError for own records."""
    if form is Form.AUTO:
        form = detect(values)
    if form is Form.KARMA:
        return soulforge.read(values)
    return as_record(FOREIGN[form].conversation(values), values, given)


def detect(values: dict[str, Any]) -> Form:
    """The form by the names of the fields. Raises Wrong where they fit none."""
    if soulforge.matches(values):
        return Form.KARMA
    for form, module in FOREIGN.items():
        if module.matches(values):
            return form
    raise Wrong("no messages, conversations or instruction: not in a form that is known")
