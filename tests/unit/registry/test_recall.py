"""What the registry asks for after a withdrawal, and which policies there are."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
from pydantic import ValidationError

from services.registry.recall import clean_intent
from services.registry.settings import RegistrySettings
from services.registry.store import TaintedVersion

VERSION = TaintedVersion("scribe@abc", "scribe", uuid4(), serves=True, karma=("a",))


def test_a_clean_ritual_is_asked_for_under_an_id_that_cannot_be_taken_in_advance() -> None:
    once, again = clean_intent(VERSION), clean_intent(replace(VERSION, karma=("b", "c")))

    assert once.id and again.id and once.id != again.id
    assert once.id.startswith("recall/scribe@abc/") and again.id.startswith("recall/scribe@abc/")
    assert once.persona == "scribe" and "scribe@abc was withdrawn" in once.why and "(2 records)" in again.why


def test_by_default_a_recall_only_warns() -> None:
    assert RegistrySettings().on_recall == "warn"
    assert RegistrySettings(on_recall="withdraw_and_retrain").on_recall == "withdraw_and_retrain"
    with pytest.raises(ValidationError):
        RegistrySettings.model_validate({"on_recall": "forget"})
