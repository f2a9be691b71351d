"""The rune files for LychD name what Soulforge has: the gateway's port, its socket, a persona."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from examples.karma.__main__ import PERSONAS
from shared.config.settings import PROJECT, Settings

FOLDER = PROJECT / "examples" / "lychd"


def rune(name: str) -> dict[str, Any]:
    return tomllib.loads((FOLDER / name).read_text(encoding="utf-8"))


def test_the_portal_is_the_gateway_at_its_default_address() -> None:
    portal = rune("portal.toml")

    assert portal["base_url"] == f"{Settings(home=Path('home'), port_base=7600).gateway_url}/v1"
    assert {model["id"] for model in portal["models"]} <= set(PERSONAS)


def test_the_soulstone_relays_to_the_gateway_s_socket_and_names_a_persona() -> None:
    stone = rune("soulstone.toml")
    (mount,) = stone["volumes"]
    host, _, inside = mount.partition(":")
    socket = Settings(home=Path("/srv/soulforge/home")).door_socket
    listening, connecting = stone["exec"]

    assert (Path(host), Path(inside) / socket.name) == (socket.parent, Path(connecting.removeprefix("UNIX-CONNECT:")))
    assert listening.startswith(f"TCP-LISTEN:{stone['port']},bind=127.0.0.1,")
    assert [model["id"] for model in stone["models"]] == [stone["served_model_id"]]
    assert stone["served_model_id"] in PERSONAS
