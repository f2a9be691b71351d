"""Rows in PostgreSQL's COPY format: what goes in comes out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.harvester.copied import NULL, escaped, plain, plain_json, text


@given(st.text())
def test_a_text_is_the_same_after_it_was_escaped_and_read(value: str) -> None:
    field = escaped(value.encode("utf-8", "surrogatepass"))

    assert plain(field) == value.encode("utf-8", "surrogatepass")
    assert field != NULL and not set(b"\t\n\r") & set(field)


def test_fields_are_read_as_postgresql_writes_them() -> None:
    assert text(rb"a\tb\\n\nc\\") == "a\tb\\n\nc\\"
    assert text("ü".encode()) == "ü"
    assert plain_json(rb'["a\\nb", "\\"so\\"", "\\\\"]') == rb'["a\nb", "\"so\"", "\\"]'
