"""What may not answer: by digest, kept through restarts, and lifted by nothing but a later override."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from services.gateway.errors import Refusal
from services.gateway.names import resolve
from services.gateway.table import Persona, Table, Version
from services.gateway.withdrawals import Withdrawals

GOOD, BAD, TWIN = "scribe@a", "scribe@b", "coder@b"


def version(name: str, **more: Any) -> Version:
    persona, _, digest = name.partition("@")
    return Version(
        name=name,
        persona=persona,
        adapter=f"sha256:{digest}",
        ritual=UUID(int=1),
        registered_at=datetime(2026, 11, 27, tzinfo=UTC),
        trouble=None,
        **more,
    )


def table(**more: Any) -> Table:
    return Table(
        read_at=1.0,
        personas={
            "scribe": Persona(version=BAD, trouble=None, previous=GOOD),
            "coder": Persona(version=TWIN, trouble=None),
        },
        versions={GOOD: version(GOOD), BAD: version(BAD, **more), TWIN: version(TWIN)},
    )


def refusal(asked: str, withdrawals: Withdrawals, known: Table) -> Refusal:
    with pytest.raises(Refusal) as caught:
        resolve(known, (), asked, withdrawals.find)
    return caught.value


def test_it_is_refused_by_digest_and_the_previous_version_takes_its_place(tmp_path: Path) -> None:
    known = table()
    withdrawals = Withdrawals(tmp_path, known)
    assert resolve(known, (), "scribe", withdrawals.find).model == BAD

    withdrawals.add(BAD, "wrong", known)

    for name in (BAD, TWIN, "coder"):
        found = refusal(name, withdrawals, known)
        assert (found.status, found.code) == (403, "version_withdrawn") and "wrong" in str(found)
    assert resolve(known, (), "scribe", withdrawals.find).model == GOOD


def test_what_the_registry_decided_is_refused_by_digest_as_well(tmp_path: Path) -> None:
    known = table(withdrawn="consent is withdrawn")
    assert refusal(TWIN, Withdrawals(tmp_path, known), known).code == "version_withdrawn"


async def test_a_table_that_does_not_know_it_changes_nothing_and_neither_does_a_restart(tmp_path: Path) -> None:
    known = table()
    withdrawals = Withdrawals(tmp_path, known)
    withdrawals.add(BAD, "wrong", known)
    withdrawals.learn(table())
    assert withdrawals.find(version(BAD)) == "wrong"
    await withdrawals.keep()

    assert Withdrawals(tmp_path, table()).find(version(TWIN)) == "wrong"
    assert Withdrawals(tmp_path, Table()).find(version(BAD)) == "wrong"


def test_one_that_is_not_known_yet_is_refused_by_digest_once_it_is(tmp_path: Path) -> None:
    withdrawals = Withdrawals(tmp_path, Table())
    withdrawals.add(BAD, "", Table())
    assert withdrawals.find(version(BAD)) == "no reason was given"
    assert withdrawals.find(version(TWIN)) is None

    assert withdrawals.learn(table())
    assert withdrawals.find(version(TWIN)) == "no reason was given"


@pytest.mark.parametrize(("seconds", "answers"), [(-5, False), (5, True)])
def test_only_an_override_after_it_lifts_it(seconds: float, answers: bool, tmp_path: Path) -> None:
    known = table()
    withdrawals = Withdrawals(tmp_path, known)
    withdrawals.add(BAD, "wrong", known)

    changed = withdrawals.learn(table(overridden_at=time.time() + seconds))

    assert changed is answers
    assert (withdrawals.find(version(BAD)) is None) is answers
    assert (withdrawals.find(version(TWIN)) is None) is answers
