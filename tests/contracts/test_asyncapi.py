"""What is said on the bus is an agreement with other components: the committed documents are the code's own."""

from __future__ import annotations

import json

from shared.contracts.intent import TrainingIntent
from tools.contracts import ASYNCAPI, STATES, asyncapi, messages, states


def test_the_committed_asyncapi_document_is_what_the_contracts_say() -> None:
    assert json.loads(ASYNCAPI.read_text()) == asyncapi(), "run `make contracts` and review the difference"


def test_the_committed_drawing_of_the_states_is_what_the_table_says() -> None:
    assert STATES.read_text() == states(), "run `make contracts`"


def test_every_message_has_a_subject_of_its_own() -> None:
    subjects = [message.subject for message in messages()]

    assert len(subjects) == len(set(subjects))


def test_an_intent_needs_nothing_but_a_persona() -> None:
    assert TrainingIntent.model_validate_json('{"persona": "scribe"}').recipe == "default"
