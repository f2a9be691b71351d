"""Admission: what may be trained on, and the reason for every no."""

from __future__ import annotations

import pytest

from services.harvester.admit import Reason, admit_one
from shared.contracts.karma import ChatMessage, KarmaRecord, Status


def record(id: str = "r", answer: str = "Yes.", **more: object) -> KarmaRecord:
    values = {
        "id": id,
        "persona": "scribe",
        "session": "s",
        "status": Status.WHITE_TRUTH,
        "consecrated_by": "ida",
        "messages": (ChatMessage(role="user", content="Is it?"), ChatMessage(role="assistant", content=answer)),
    }
    return KarmaRecord.model_validate({**values, **more})


@pytest.mark.parametrize(
    ("status", "reason"),
    [(Status.WHITE_TRUTH, None), (Status.SPECULATIVE, Reason.UNCONSECRATED), (Status.REVOKED, Reason.REVOKED)],
)
def test_only_what_its_owner_consecrated_is_admitted(status: Status, reason: Reason | None) -> None:
    assert admit_one(record(status=status), frozenset(), set()) == reason


def test_what_was_corrected_is_not_trained_on() -> None:
    assert admit_one(record("parent"), frozenset({"parent"}), set()) is Reason.SUPERSEDED


def test_a_revoked_record_is_revoked_before_it_is_anything_else() -> None:
    assert admit_one(record("parent", status=Status.REVOKED), frozenset({"parent"}), set()) is Reason.REVOKED


@pytest.mark.parametrize("answer", ["Yes.", "  yes. ", "YES.\n", "Ｙes."])
def test_the_same_text_is_used_once_whatever_its_spacing_case_and_width(answer: str) -> None:
    seen: set[bytes] = set()

    assert admit_one(record("one"), frozenset(), seen) is None
    assert admit_one(record("two", answer), frozenset(), seen) is Reason.DUPLICATE


def test_a_refused_record_claims_no_text() -> None:
    seen: set[bytes] = set()

    admit_one(record("one", status=Status.SPECULATIVE), frozenset(), seen)

    assert admit_one(record("two"), frozenset(), seen) is None


def test_another_answer_is_another_text() -> None:
    seen: set[bytes] = set()
    admit_one(record("one"), frozenset(), seen)

    assert admit_one(record("two", "No."), frozenset(), seen) is None
