"""What clients may send to the gateway is an agreement with them: the document has the door's routes, and no other."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from shared.config.settings import Settings
from tests.openapi.run import DOCUMENT
from tests.support.configurations import configured
from tests.support.gateways import list_routes, tables_of

TEXT = DOCUMENT.read_text(encoding="utf-8")
PATHS: dict[str, dict[str, Any]] = json.loads(TEXT)["paths"]


async def test_the_document_has_the_routes_of_the_door(tmp_path: Path) -> None:
    own = configured(Settings(home=tmp_path), tmp_path, **tables_of(1, tmp_path, {}))

    assert set(list_routes(own)) == {(method.upper(), path) for path, methods in PATHS.items() for method in methods}


def test_all_that_the_document_refers_to_is_in_it() -> None:
    components = json.loads(TEXT)["components"]
    named = set(re.findall(r'"#/components/(\w+)/(\w+)"', TEXT))
    named |= {("securitySchemes", name) for name in re.findall(r'\{"(\w+)": \[\]\}', TEXT)}

    assert named == {(kind, name) for kind, all_of_kind in components.items() for name in all_of_kind}
