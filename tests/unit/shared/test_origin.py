"""Requests of web pages: refused by Host, Origin and Content-Type before they reach a server."""

from __future__ import annotations

from typing import Any

import pytest

from shared.asgi.origin import check_origin

JSON = "application/json"


def status(
    method: str = "POST",
    host: str | None = "127.0.0.1:7610",
    origin: str | None = None,
    content: str | None = JSON,
    path: str = "/v1/completions",
    own_name: str = "localhost",
    authorization: str | None = None,
) -> int | None:
    """The status of the refusal; None where the request is passed on."""
    values = {b"host": host, b"origin": origin, b"content-type": content, b"authorization": authorization}
    headers = [(name, value.encode()) for name, value in values.items() if value is not None]
    scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "headers": headers}
    refusal = check_origin(scope, own_name)
    return refusal.status if refusal else None


@pytest.mark.parametrize(
    "host", ["127.0.0.1:7610", "localhost:7610", "LOCALHOST", "[::1]:7610", "192.168.1.7:7610", "127.0.0.1"]
)
def test_an_address_and_localhost_are_names_of_this_machine(host: str) -> None:
    assert status(host=host) is None


@pytest.mark.parametrize(
    "host",
    [
        "page.example:7610",
        "127.0.0.1.page.example",
        "localhost.page.example",
        "page.example@127.0.0.1",
        "127.0.0.1@page.example",
        "",
        None,
        "::1",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_name_may_be_one_that_was_rebound(host: str | None, method: str) -> None:
    assert status(method, host=host) == 403


def test_the_name_that_the_server_is_bound_to_is_its_own() -> None:
    assert status(host="anvil.lan:7610", own_name="anvil.lan") is None
    assert status(host="anvil.lan:7610") == 403


def test_two_hosts_are_none() -> None:
    headers = [(b"host", b"127.0.0.1"), (b"host", b"127.0.0.1"), (b"content-type", JSON.encode())]

    assert check_origin({"type": "http", "method": "POST", "path": "/", "headers": headers}, "localhost")


@pytest.mark.parametrize(
    "origin", ["http://page.example", "http://127.0.0.1:3000", "null", "", "http://localhost:7610", "file://"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_page_of_another_origin_is_refused_whatever_it_asks(origin: str, method: str) -> None:
    assert status(method, origin=origin) == 403


def test_the_servers_own_pages_may_use_it() -> None:
    assert status(origin="http://127.0.0.1:7610") is None


@pytest.mark.parametrize(
    "content", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", None]
)
def test_what_a_page_may_send_unasked_changes_nothing(content: str | None) -> None:
    assert status(content=content) == 415


def test_a_page_sends_no_key_unasked() -> None:
    for content in ("multipart/form-data; boundary=x", None):
        assert status("POST", content=content, authorization="Bearer sk-soulforge-1") is None
        assert status("DELETE", content=content, authorization="bearer sk-soulforge-1") is None
        # A browser adds a name and a password that it knows by itself.
        assert status("POST", content=content, authorization="Basic YTpi") == 415


def test_what_only_reads_needs_no_content_type() -> None:
    assert status("GET", content=None) is None
    assert status("DELETE", content=None) == 415


def test_json_may_name_its_encoding() -> None:
    assert status(content="Application/JSON; charset=utf-8") is None
