"""What clients may send to the gateway is an agreement with them: the document has the door's routes, and no other."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from deploy.services import load_configuration
from services.gateway.door import Door
from services.gateway.engines import Engines
from services.gateway.forward import Forwarder
from shared.config.settings import Settings
from tests.openapi.run import DOCUMENT
from tests.support.configurations import configured
from tests.support.gateways import tables_of

TEXT = DOCUMENT.read_text(encoding="utf-8")
PATHS: dict[str, dict[str, Any]] = json.loads(TEXT)["paths"]


async def test_the_document_has_the_routes_of_the_door(tmp_path: Path) -> None:
    own = configured(Settings(home=tmp_path), tmp_path, **tables_of(1, tmp_path, {}))
    configuration = load_configuration(own)
    engines = Engines(own, configuration)

    door = Door(own, configuration, engines, Forwarder(engines, {}), None)

    routes: list[Any] = door.app.routes
    found = {(route.path, method) for route in routes for method in route.methods or {"any"} if method != "HEAD"}
    assert found == {(path, method.upper()) for path, methods in PATHS.items() for method in methods}


def test_all_that_the_document_refers_to_is_in_it() -> None:
    components = json.loads(TEXT)["components"]
    named = set(re.findall(r'"#/components/(\w+)/(\w+)"', TEXT))

    assert named == {(kind, name) for kind, all_of_kind in components.items() for name in all_of_kind}
