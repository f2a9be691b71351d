"""What comes from outside is bounded: times, texts, patterns. What a fact holds is made to fit instead."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from pydantic import TypeAdapter, ValidationError

from shared.contracts.checks import Regex
from shared.contracts.evacuate import GpuEvacuated
from shared.contracts.intent import TrainingIntent
from shared.contracts.job import JobSpan
from shared.contracts.karma import KarmaConsecrated, KarmaRecord
from shared.contracts.message import Fact, Message
from shared.contracts.moment import Moment, MomentOrUtc
from shared.contracts.patterns import LONGEST_PATTERN
from shared.contracts.roles import PUBLISHERS
from shared.contracts.text import is_storable

MOMENT: TypeAdapter[datetime] = TypeAdapter(Moment)
WITH_TIMES = [message for message in PUBLISHERS if not issubclass(message, Fact)]


@pytest.mark.parametrize("value", ["1900-01-01T00:00:00Z", "2999-12-31T23:59:59.999999Z", "1900-01-01T05:00:00+05:00"])
def test_a_moment_that_postgresql_holds_is_one(value: str) -> None:
    assert MOMENT.validate_json(f'"{value}"') == datetime.fromisoformat(value)


@pytest.mark.parametrize(
    "value",
    [
        '"0001-01-01T00:00:00+14:00"',
        '"0001-01-01T00:00:00Z"',
        '"1899-12-31T23:59:59Z"',
        '"1900-01-01T00:00:00+00:01"',
        '"3000-01-01T00:00:00Z"',
        '"9999-12-31T23:59:59-05:00"',
        '"2026-01-01T00:00:00"',
        "1e300",
        "-1e300",
        "NaN",
    ],
)
def test_any_other_is_refused(value: str) -> None:
    with pytest.raises(ValidationError):
        MOMENT.validate_json(value)


@pytest.mark.parametrize("message", WITH_TIMES, ids=lambda message: message.subject)
def test_every_time_in_a_message_is_bounded(message: type[Message]) -> None:
    times = {name for name, hint in message.__annotations__.items() if "datetime" in str(hint).lower()}

    assert times == set()


def test_a_time_of_a_record_without_a_zone_is_utc() -> None:
    assert TypeAdapter(MomentOrUtc).validate_json('"2026-01-01T00:00:00"') == datetime(2026, 1, 1, tzinfo=UTC)


TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "there"}]
RECORD: dict[str, Any] = {
    "id": "a",
    "persona": "scribe",
    "session": "s",
    "consecrated_by": "me",
    "messages": TURNS,
}


@pytest.mark.parametrize("text", ["\0", "\ud83d", "a\udc00b"])
@pytest.mark.parametrize(
    ("contract", "field", "values"),
    [
        (TrainingIntent, "why", lambda text: {"persona": "scribe", "why": text}),
        (TrainingIntent, "kinds", lambda text: {"persona": "scribe", "kinds": [text]}),
        (KarmaRecord, "messages", lambda text: RECORD | {"messages": [{"role": "user", "content": text}, TURNS[1]]}),
        (KarmaConsecrated, "tools", lambda text: RECORD | {"tools": [{"a": [{text: 1}]}]}),
        (
            KarmaConsecrated,
            "outcome",
            lambda text: RECORD | {"outcome": {"checks": [{"kind": "equals", "text": text}]}},
        ),
    ],
)
def test_a_text_that_cannot_be_stored_is_refused_with_its_field(
    contract: type[Any], field: str, values: Any, text: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        contract.model_validate(values(text))

    [error] = refused.value.errors()
    assert error["loc"] == (field,)
    assert "NUL character in text, or half of a surrogate pair" in error["msg"] or "unicode string" in error["msg"]


def test_a_fact_is_made_of_any_text() -> None:
    span = JobSpan(name="load\0", start_ns=1, end_ns=2, attributes={"half \ud83d": "\udc00"})
    fact = GpuEvacuated(
        ritual=uuid4(),
        persona="scribe",
        anvil="a\0",
        fence=1,
        memory_before=2,
        memory_after=1,
        device="d",
        spans=(span,),
    )

    assert is_storable(fact.details())
    assert GpuEvacuated.model_validate_json(fact.model_dump_json()) == fact
    assert fact.anvil == "a\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    "pattern",
    [
        "(",
        "a{99999999999999999999}",
        "(" * 900 + ")" * 900,
        "a" * (LONGEST_PATTERN + 1),
    ],
)
def test_a_pattern_that_does_not_compile_in_bounded_time_is_refused(pattern: str) -> None:
    began = time.perf_counter()
    with pytest.raises(ValidationError):
        Regex(pattern=pattern)
    assert time.perf_counter() - began < 0.5


def test_the_slowest_pattern_compiles_in_a_blink() -> None:
    began = time.perf_counter()
    Regex(pattern="(?i)" + "[\x01-\uffff]" * 300)

    assert time.perf_counter() - began < 2
