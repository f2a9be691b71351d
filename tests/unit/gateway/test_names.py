"""What a client may ask for, and what it stands for."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from services.gateway.errors import Refusal
from services.gateway.names import Target, list_cards, resolve, unloaded
from services.gateway.table import Persona, Table, Version

RITUAL = UUID(int=1)
BASES = frozenset({"smollm2", "qwen"})


def version(name: str, trouble: str | None = None) -> Version:
    persona, _, digest = name.partition("@")
    return Version(
        name=name,
        persona=persona,
        adapter=f"sha256:{digest}",
        ritual=RITUAL,
        registered_at=datetime(2026, 11, 27, tzinfo=UTC),
        trouble=trouble,
    )


TABLE = Table(
    read_at=1.0,
    personas={
        "scribe": Persona(version="scribe@b", trouble=None),
        "coder": Persona(version=None, trouble="coder@a does not serve: its bundle is damaged"),
        "smith": Persona(version="smith@a", trouble="smith@b does not serve: its bundle is damaged"),
    },
    versions={
        one.name: one
        for one in (
            version("scribe@a"),
            version("scribe@b"),
            version("scribe@c", "it was withdrawn"),
            version("coder@a", "its bundle is damaged"),
            version("smith@a"),
        )
    },
)


@pytest.mark.parametrize(
    ("asked", "target"),
    [
        ("scribe", Target("scribe@b", "scribe", RITUAL, adapter="sha256:b")),
        ("scribe@b", Target("scribe@b", "scribe", RITUAL, adapter="sha256:b", pinned=True)),
        ("scribe@a", Target("scribe@a", "scribe", RITUAL, wanted=False, adapter="sha256:a", pinned=True)),
        ("smith", Target("smith@a", "smith", RITUAL, adapter="sha256:a")),
        ("qwen", Target("qwen")),
    ],
)
def test_a_name_stands_for_one_model_of_an_engine(asked: str, target: Target) -> None:
    assert resolve(TABLE, BASES, asked) == target


@pytest.mark.parametrize(
    ("asked", "status", "code", "why"),
    [
        ("nobody", 404, "model_not_found", "these answer: coder, scribe, smith, qwen, smollm2"),
        ("scribe@", 404, "model_not_found", "'scribe@'"),
        ("Scribe", 404, "model_not_found", "'Scribe'"),
        ("scribe@c", 409, "version_unserved", "it was withdrawn"),
        ("coder@a", 409, "version_unserved", "its bundle is damaged"),
        ("coder", 503, "persona_unserved", "its bundle is damaged"),
    ],
)
def test_what_serves_nothing_is_refused_with_the_reason(asked: str, status: int, code: str, why: str) -> None:
    with pytest.raises(Refusal, match=why) as refused:
        resolve(TABLE, BASES, asked)

    assert (refused.value.status, refused.value.code) == (status, code)
    assert (refused.value.retry_after_s is not None) == (status == 503)


def test_before_the_first_table_a_persona_may_exist_and_a_base_answers() -> None:
    with pytest.raises(Refusal, match="not read yet") as refused:
        resolve(Table(), BASES, "scribe")

    assert refused.value.status == 503 and refused.value.retry_after_s
    assert resolve(Table(), BASES, "qwen") == Target("qwen")


@pytest.mark.parametrize(
    ("asked", "answering", "status"),
    [("scribe@a", True, 409), ("scribe@a", False, 503), ("scribe", True, 503), ("scribe", False, 503)],
)
def test_a_version_that_no_engine_has_is_refused_for_now_only_where_it_is_to_serve(
    asked: str, answering: bool, status: int
) -> None:
    assert unloaded(resolve(TABLE, BASES, asked), answering).status == status


def test_the_list_says_what_each_model_is() -> None:
    cards = {card["id"]: card for card in list_cards(TABLE, BASES, {"qwen", "scribe@b"}, lambda persona: "qwen")}

    assert list(cards)[:2] == ["qwen", "smollm2"] and len(cards) == 2 + 3 + 5
    assert cards["scribe"]["root"] == "scribe@b" and cards["scribe"]["parent"] == "qwen"
    assert cards["scribe@b"]["soulforge"] == {
        "kind": "version",
        "loaded": True,
        "serves": True,
        "trouble": None,
        "persona": "scribe",
        "ritual": str(RITUAL),
    }
    assert not cards["scribe@a"]["soulforge"]["serves"] and not cards["smollm2"]["soulforge"]["loaded"]
    assert cards["scribe"]["soulforge"]["loaded"] and not cards["smith"]["soulforge"]["loaded"]
    assert cards["coder"]["soulforge"]["trouble"] == "coder@a does not serve: its bundle is damaged"
