"""The scopes of keys are the same words at the gateway, on the bus and in the database."""

from __future__ import annotations

import re

from shared.config.settings import PROJECT
from shared.contracts.roles import PUBLISHERS, Role
from shared.contracts.scopes import SCOPES, Scope
from tools.contracts import asyncapi

MIGRATION = PROJECT / "services" / "gateway" / "migrations" / "0001_gateway.sql"


def test_every_command_of_the_owner_has_a_scope() -> None:
    assert {message for message, roles in PUBLISHERS.items() if Role.OWNER in roles} == SCOPES.keys()


def test_the_document_of_the_bus_has_the_scope_of_each_command() -> None:
    found = {name: one["x-scope"] for name, one in asyncapi()["operations"].items() if "x-scope" in one}

    assert found == {f"receive-{message.subject}": str(scope) for message, scope in SCOPES.items()}


def test_the_table_of_keys_takes_these_words_and_no_other() -> None:
    [words] = re.findall(r"scopes <@ ARRAY\[(.*?)\]", MIGRATION.read_text(encoding="utf-8"))

    assert re.findall(r"'(\w+)'", words) == [str(scope) for scope in Scope]
