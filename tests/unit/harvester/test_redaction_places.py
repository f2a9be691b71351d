"""Where secrets hide, one case of each kind, and what only looks like one."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from shared.redaction.examine import examine
from shared.redaction.policy import RedactionPolicy
from shared.redaction.scanner import Scanner
from tests.support.corpora.hard_negatives import hard_negatives
from tests.support.corpora.kinds import KINDS, fill
from tests.support.corpora.shapes import SHAPES
from tests.support.corpora.worst import list_super_linear

SCANNER = Scanner(RedactionPolicy())
PASSWORD = "k9Wq2" + "LmZt7Bv"
KEY = "f16947cc" + "f25ec84d" + "8dbc7425" + "4770f589"


def decided(content: Any) -> str:
    return examine(content, SCANNER).decision


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_place_gives_its_value_up(name: str) -> None:
    random = Random(41)
    for _ in range(20):
        text, value = fill(KINDS[name], random)
        result = examine({"arguments": text} if text.startswith("{") else {"content": text}, SCANNER)
        assert KINDS[name].sensitive in result.found, text
        assert value not in json.dumps(result.values, ensure_ascii=False), text


def test_over_two_hundred_shapes_of_tokens_are_found_without_a_word_before_them() -> None:
    bare = [shape for shape in SHAPES if not shape.name]
    random = Random(42)

    tokens = [(shape.service, shape.draw(random)) for shape in bare]
    missed = [service for service, token in tokens if token in SCANNER.clean(f"I ran it with {token}.")[0]]

    assert len(bare) >= 200
    assert not missed


@pytest.mark.parametrize("text", ["パスワード：「{}」", "パスワードは『{}』です", "密码是【{}】"])
def test_a_password_in_brackets_of_east_asia_is_found(text: str) -> None:
    assert PASSWORD not in SCANNER.clean(text.format(PASSWORD))[0]


def test_over_two_hundred_texts_that_only_look_alike_hold_nothing() -> None:
    texts = hard_negatives()

    assert len(set(texts)) >= 200
    assert [text for text in texts if SCANNER.find(text)] == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"selector": "#password", "text": PASSWORD},
        {"cmd": ["tool", "--password", PASSWORD]},
        {"headers": [["x-api-key", KEY]]},
        {"code": f"page.getByLabel('Password').fill('{PASSWORD}')"},
        {"fields": [{"name": "Your password", "value": PASSWORD}]},
        {"password": {"value": PASSWORD}},
        {"env": {"HEROKU": "12345678-abcd-4321-" + "9876-abcdef012345"}},
        {"Name": "DB_PASSWORD", "Value": PASSWORD},
        {"ParameterKey": "DbPassword", "ParameterValue": PASSWORD},
        {"property": "spring.datasource.password", "newValue": PASSWORD},
        {"prompt": "sudo password:", "input": PASSWORD},
        {"expect": "Password:", "send": PASSWORD},
        {"xpath": "//input[@type='password']", "text": PASSWORD},
        {"auth": ["ida", PASSWORD]},
        {"argv": ["mysql", "-uida", "-p" + PASSWORD]},
        {"argv": ["curl", "-u", "ida:" + PASSWORD, "https://api.acme.io/"]},
        {"argv": ["docker", "login", "-u", "ida", "-p", PASSWORD]},
        {"argv": ["sshpass", "-p", PASSWORD, "ssh", "db"]},
        {"argv": ["redis-cli", "-p", 6379, "-a", PASSWORD]},
        {"argv": ["net", "user", "ida", PASSWORD]},
        {"argv": ["zip", "-P", PASSWORD, "a.zip"]},
        {"command": "mysql", "args": ["-uida", "-p" + PASSWORD]},
    ],
)
def test_what_stands_beside_a_value_in_a_call_names_it(arguments: dict[str, Any]) -> None:
    assert decided({"arguments": json.dumps(arguments)}) == "quarantined"
    assert SCANNER.suspicious(json.dumps(arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        {"selector": "#username", "text": PASSWORD},
        {"cmd": ["tool", "--password-file", "/run/secrets/db", PASSWORD]},
        {"headers": [["x-request-id", KEY]]},
        {"name": "password", "type": "string", "description": "The password of the user."},
        {"Name": "DB_HOST", "Value": PASSWORD},
        {"expect": "login:", "send": PASSWORD},
        {"xpath": "//input[@type='text']", "text": PASSWORD},
        {"auth": ["read", "write"]},
        {"argv": ["docker", "login", "-u", "ida", "--password-stdin"]},
        {"argv": ["mkdir", "-p", PASSWORD]},
        {"command": "mkdir", "args": ["-p", PASSWORD]},
        {"argv": ["call", "2025550143"]},
    ],
)
def test_other_neighbours_of_a_value_do_not(arguments: dict[str, Any]) -> None:
    assert decided({"arguments": json.dumps(arguments)}) == "clean"


def test_a_secret_in_an_argument_list_is_hidden_in_its_place_and_counted_once() -> None:
    result = examine({"argv": ["curl", "-u", f"ida:{PASSWORD}", 5, "-s"]}, SCANNER)

    assert result.values == {"argv": ["curl", "-u", "ida:[password]", 5, "-s"]}
    assert sum(result.found.values()) == 1
    assert list(result.hidden) == [PASSWORD]


def test_defaults_of_development_are_let_by_only_on_hosts_of_development() -> None:
    assert decided("postgres://postgres:postgres@localhost:5432/postgres") == "clean"
    assert decided("postgres://postgres:postgres@db.acme.io:5432/postgres") == "quarantined"
    assert decided(f"postgres://postgres:{PASSWORD}@localhost/postgres") == "quarantined"


def test_a_table_names_the_cells_of_its_columns_only() -> None:
    table = f"| user | password | note |\n|---|---|---|\n| dana | {PASSWORD} | {KEY} |\n"

    assert [table[start:end] for start, end, _ in SCANNER.find(table)] == [PASSWORD]


@pytest.mark.parametrize(
    "table",
    [
        f"    password   varchar255\n    {PASSWORD}   varchar255\n",
        f" name  | password_hint\n-------+------\n {PASSWORD} | {PASSWORD}\n",
        f"NAME   PASSWORD   KEY\n{PASSWORD}    none       {PASSWORD}\n",
        "NAME   SECRET      TYPE\ntls    db-secret   Opaque\n",
        " user | password\n------+----------\n ida  | required\n",
        json.dumps({"columns": ["id", "user", "note"], "rows": [["1", "password", PASSWORD]]}),
        json.dumps({"columns": ["user", "password_length"], "rows": [["ida", PASSWORD]]}),
    ],
)
def test_a_table_without_a_column_of_secrets_holds_none(table: str) -> None:
    assert decided({"content": table}) == "clean"


def test_quoted_csv_is_found_wherever_in_a_record_it_is() -> None:
    table = f'"user","password"\n"ida","{PASSWORD}"\n'

    assert all(decided({key: table}) == "quarantined" for key in ("content", "body", "file_text"))


def test_a_placeholder_names_nothing_that_follows_it() -> None:
    assert decided(f"password {PASSWORD}") == "quarantined"
    assert decided(f"[password] {PASSWORD}") == "clean"
    assert decided(["[password]", "1000"]) == decided(["password [private key]", "1000"]) == "clean"
    assert decided({"name": "[password]", "value": "1000"}) == "clean"


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("CPF", "390.533.447-05"),
        ("Aadhaar", "234123412346"),
        ("personnummer", "880320-0016"),
        ("CPR-nummer", "211062-5629"),
        ("AHV", "756.9217.0769.85"),
    ],
)
def test_a_number_of_a_state_is_found_behind_its_name_only(name: str, number: str) -> None:
    assert decided(f"{name}: {number}") == "redacted"
    assert decided(f"item: {number}") == "clean"


def test_the_time_of_a_search_grows_in_proportion_to_the_text() -> None:
    assert list_super_linear(SCANNER, 25_000) == []
