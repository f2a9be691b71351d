"""The formats that can be imported: Soulforge's own here, foreign ones in a module each."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from deploy.cli.import_formats import alpaca, openai, sharegpt
from deploy.cli.import_formats.record import RecordError, items, to_record
from shared.contracts.karma import KarmaRecord

if TYPE_CHECKING:
    from deploy.cli.import_formats.record import ImportDefaults


class Format(StrEnum):
    """The format of a record; `auto` detects that of every record by itself."""

    AUTO = "auto"
    KARMA = "karma"
    OPENAI = "openai"
    SHAREGPT = "sharegpt"
    ALPACA = "alpaca"


OWN_FIELDS = frozenset(("persona", "session", "status", "outcome", "consecrated_by", "parent", "purposes"))
LONGEST_NAME = 200  # what an index of the karma table holds safely
FOREIGN = {Format.OPENAI: openai, Format.SHAREGPT: sharegpt, Format.ALPACA: alpaca}


def read(values: dict[str, Any], record_format: Format, defaults: ImportDefaults) -> KarmaRecord:
    """Read a record in this format. Raises RecordError, and pydantic's ValidationError for own records."""
    if record_format is Format.AUTO:
        record_format = detect(values)
    if record_format is Format.KARMA:
        return _own(values)
    return to_record(FOREIGN[record_format].conversation(values), values, defaults)


def detect(values: dict[str, Any]) -> Format:
    """Detect the format by the names of the fields. Raises RecordError where they fit none."""
    if not OWN_FIELDS.isdisjoint(values):
        return Format.KARMA
    for record_format, module in FOREIGN.items():
        if module.matches(values):
            return record_format
    raise RecordError("no messages, conversations or instruction: not in a known format")


def _own(values: dict[str, Any]) -> KarmaRecord:
    """Raises RecordError, and pydantic's ValidationError."""
    if "messages" not in values:
        raise RecordError("no messages")
    if not items(values["messages"], "messages"):
        raise RecordError("messages are empty")
    record = KarmaRecord.model_validate(values)
    if record.parent is not None and len(record.parent) > LONGEST_NAME:
        raise RecordError(f"parent: longer than {LONGEST_NAME} characters")
    return record
