"""What is said on the bus is an agreement with other components: the committed documents are the code's own."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from deploy.services import SERVICES as SERVICES_RUN
from shared.config.recipe import Recipe
from shared.contracts.intent import TrainingIntent
from shared.contracts.message import Message
from shared.contracts.ritual import FACTS
from shared.contracts.roles import PUBLISHERS, SERVICES, is_command
from tools.contracts import ASYNCAPI, RECIPES, STATES, asyncapi, recipes, states


def test_the_committed_asyncapi_document_is_what_the_contracts_say() -> None:
    assert json.loads(ASYNCAPI.read_text()) == asyncapi(), "run `make contracts` and review the difference"


def test_the_committed_drawing_of_the_states_is_what_the_table_says() -> None:
    assert STATES.read_text() == states(), "run `make contracts`"


def test_every_message_has_a_subject_of_its_own() -> None:
    subjects = [message.subject for message in PUBLISHERS]

    assert len(subjects) == len(set(subjects))


def test_every_message_has_its_publishers() -> None:
    assert {message for message in _subclasses(Message) if "subject" in vars(message)} == set(PUBLISHERS)


def _subclasses(kind: type[Message]) -> Iterator[type[Message]]:
    for one in kind.__subclasses__():
        yield one
        yield from _subclasses(one)


def test_every_service_has_a_role_and_every_fact_is_published_by_services_only() -> None:
    assert set(SERVICES_RUN) == SERVICES
    assert not [fact for fact in FACTS if is_command(fact)]


def test_an_intent_needs_nothing_but_a_persona() -> None:
    assert TrainingIntent.model_validate_json('{"persona": "scribe"}').recipe == "default"


@pytest.mark.parametrize("sources", [("a", "b"), ("b",)])
def test_no_source_is_both_trained_and_dev(sources: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="b: in sources and in dev_sources"):
        TrainingIntent(persona="scribe", sources=sources, dev_sources=("b", "c"))


def test_the_table_of_recipes_has_every_field_as_the_code_has_it() -> None:
    assert RECIPES.read_text() == recipes(), "run `make contracts`"
    assert all(f"| `{name}` |" in recipes() for name in Recipe.model_fields)
