"""Keys: who sends a request, what it may do, and what the gateway keeps of its key."""

from __future__ import annotations

import base64
import hmac
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.gateway.errors import Refusal
from services.gateway.keys.authenticate import Authenticator, find_key
from services.gateway.keys.client import LOCAL, Client
from services.gateway.keys.key import PREFIX, Key, hash_secret, make_secret
from services.gateway.keys.known import KnownKeys
from shared.config.settings import Settings
from shared.contracts.scopes import Scope

SECRET, OTHER = "sk-soulforge-a", "sk-soulforge-b"
NOW = datetime.now(UTC)
LOOPBACK, ELSEWHERE, SOCKET = ("127.0.0.1", 50000), ("203.0.113.9", 50000), None
SERVER = ("198.51.100.7", 7605)


def key(secret: str = SECRET, **fields: Any) -> Key:
    values: dict[str, Any] = {"id": "key-1", "name": "ada", "hash": hash_secret(secret), "scopes": {Scope.CHAT}}
    return Key(**values | fields)


def request(*headers: tuple[str, str], peer: tuple[str, int] | None = LOOPBACK) -> dict[str, Any]:
    server = SERVER if peer else ("/run/gateway.sock", None)
    return {"headers": [(name.encode(), value.encode()) for name, value in headers], "server": server, "client": peer}


def bearing(secret: str, peer: tuple[str, int] | None = LOOPBACK) -> dict[str, Any]:
    return request(("authorization", f"Bearer {secret}"), peer=peer)


async def door(home: Path, *keys: Key) -> Authenticator:
    known = KnownKeys(Settings(home=home))
    await known.set(keys)
    return Authenticator(known)


def refused(authenticator: Authenticator, asked: dict[str, Any]) -> Refusal:
    with pytest.raises(Refusal) as found:
        authenticator.identify(asked)
    return found.value


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("needed", Scope)
def test_a_scope_allows_itself_and_admin_allows_all(scope: Scope, needed: Scope) -> None:
    client = key(scopes={scope}).client()
    if needed is scope or scope is Scope.ADMIN:
        client.require(needed)
        return
    with pytest.raises(Refusal, match=f"this needs the scope {needed}, and the key key-1 of ada has: {scope}") as found:
        client.require(needed)
    assert (found.value.status, found.value.code, found.value.kind) == (403, "insufficient_scope", "permission_error")


def test_a_key_for_one_persona_is_for_no_other() -> None:
    client = key(personas=frozenset({"scribe"})).client()

    client.require(Scope.CHAT, "scribe")
    with pytest.raises(Refusal, match="the key key-1 of ada may not use 'coder', only: scribe"):
        client.require(Scope.CHAT, "coder")


@pytest.mark.parametrize("presented", [[], ["Bearer none"], ["Bearer "], ["bearer none"]])
@pytest.mark.parametrize("peer", [LOOPBACK, ("::1", 50000), ("198.51.100.7", 50000), SOCKET])
async def test_a_program_of_this_machine_may_chat_without_a_key(
    presented: list[str], peer: tuple[str, int] | None, tmp_path: Path
) -> None:
    asked = request(*(("authorization", value) for value in presented), peer=peer)

    assert (await door(tmp_path)).identify(asked) == LOCAL == Client(None, "local", frozenset({Scope.CHAT}))


@pytest.mark.parametrize(
    "asked",
    [
        request(peer=ELSEWHERE),
        bearing("none", ELSEWHERE),
        request(("x-forwarded-for", "127.0.0.1")),
        request(("forwarded", "for=127.0.0.1")),
        request(("via", "1.1 proxy")),
        request(("x-forwarded-host", "forge.example")),
        request(("x-forwarded-proto", "https")),
        request(("x-real-ip", "127.0.0.1")),
        request(("x-forwarded-for", "127.0.0.1"), peer=SOCKET),
        {**request(), "client": None},  # a connection that is gone already
        bearing(OTHER),
        bearing(OTHER, SOCKET),
        bearing(hash_secret(SECRET)),
        bearing("ключ"),
        request(("authorization", f"Basic {SECRET}")),
        request(("authorization", SECRET)),
        request(("authorization", f"Bearer {SECRET}"), ("authorization", f"Bearer {SECRET}")),
        request(("authorization", "Bearer none"), ("authorization", f"Bearer {SECRET}")),
    ],
)
async def test_all_others_need_a_key_and_a_wrong_one_opens_nothing(asked: dict[str, Any], tmp_path: Path) -> None:
    found = refused(await door(tmp_path, key()), asked)

    assert (found.status, found.code, found.kind) == (401, "invalid_api_key", "authentication_error")
    assert SECRET not in str(found) and OTHER not in str(found)


@pytest.mark.parametrize("peer", [LOOPBACK, ELSEWHERE, SOCKET])
async def test_a_key_opens_from_everywhere_until_it_is_revoked_or_expires(
    peer: tuple[str, int] | None, tmp_path: Path
) -> None:
    asked = bearing(SECRET, peer)
    later, before = NOW + timedelta(hours=1), NOW - timedelta(seconds=1)

    open_until = await door(tmp_path, key(expires_at=later, personas=frozenset({"scribe"})), key(OTHER))
    assert open_until.identify(asked) == Client("key-1", "ada", frozenset({Scope.CHAT}), frozenset({"scribe"}))
    for field, text in (("revoked_at", "was revoked"), ("expires_at", "expired")):
        ended = key().model_copy(update={field: before})
        found = refused(await door(tmp_path, ended), asked)
        assert (found.status, found.code) == (401, "invalid_api_key") and f"key-1 {text} at 20" in str(found)


@pytest.mark.parametrize("asked", [bearing(SECRET), bearing(OTHER), bearing("sk-x"), request(peer=ELSEWHERE)])
async def test_every_request_is_compared_with_every_key_in_constant_time(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A right key, a wrong one and none cost the same."""
    compared: list[str] = []
    really = hmac.compare_digest

    def compare_digest(known: str, given: str) -> bool:
        compared.append(given)
        return really(known, given)

    authenticator = await door(tmp_path, key(), *(key(f"sk-{number}") for number in range(9)))
    monkeypatch.setattr("services.gateway.keys.authenticate.hmac.compare_digest", compare_digest)
    with suppress(Refusal):
        authenticator.identify(asked)

    assert len(compared) == 10 and {len(digest) for digest in compared} == {64}


def test_a_secret_has_256_random_bits() -> None:
    one, other = make_secret(), make_secret()

    assert one != other and one.startswith(PREFIX)
    assert len(base64.urlsafe_b64decode(one.removeprefix(PREFIX) + "=")) == 32
    assert find_key([key(one)], one) and not find_key([key(one)], other)


async def test_a_key_sends_so_many_requests_in_any_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("services.gateway.keys.authenticate.time.monotonic", lambda: now)
    authenticator, asked = await door(tmp_path, key(per_minute=2)), bearing(SECRET)
    authenticator.identify(asked)
    now = 1030.5
    authenticator.identify(asked)

    now = 1059.9
    found = refused(authenticator, asked)
    assert (found.status, found.code, found.kind, found.retry_after_s) == (
        429,
        "rate_limit_exceeded",
        "rate_limit_error",
        1,
    )
    now = 1060.0
    authenticator.identify(asked)
    assert refused(authenticator, asked).retry_after_s == 31
    for _ in range(3):
        assert authenticator.identify(request()) == LOCAL


async def test_a_restart_knows_the_keys_and_no_secret_is_kept(tmp_path: Path) -> None:
    await door(tmp_path, key(), key(OTHER, revoked_at=NOW))

    again = Authenticator(KnownKeys(Settings(home=tmp_path)))

    assert again.identify(bearing(SECRET)).name == "ada"
    assert "was revoked" in str(refused(again, bearing(OTHER)))
    kept = (tmp_path / "gateway" / "keys.json").read_text()
    assert hash_secret(SECRET) in kept and SECRET not in kept


async def test_keys_that_cannot_be_read_open_nothing(tmp_path: Path) -> None:
    await door(tmp_path, key())
    (tmp_path / "gateway" / "keys.json").write_text("{")

    again = Authenticator(KnownKeys(Settings(home=tmp_path)))

    assert refused(again, bearing(SECRET)).status == 401
    assert again.identify(request()) == LOCAL


async def test_the_owners_key_is_read_from_its_file_and_may_be_renewed(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    known = KnownKeys(settings)
    authenticator = Authenticator(known)
    assert refused(authenticator, bearing(SECRET)).status == 401

    settings.owner_key_file.parent.mkdir()
    settings.owner_key_file.write_text(f"{SECRET}\n")
    known.read_owner_key()
    assert authenticator.identify(bearing(SECRET)) == Client("owner", "owner", frozenset({Scope.ADMIN}))

    settings.owner_key_file.write_text("\n")
    known.read_owner_key()
    assert known.all == ()
    settings.owner_key_file.write_text(OTHER)
    await known.set([])
    assert authenticator.identify(bearing(OTHER)).key == "owner"
    assert refused(authenticator, bearing(SECRET)).status == 401
    assert not (tmp_path / "gateway" / "keys.json").exists()
