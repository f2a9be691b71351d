"""The architecture: import contracts, and the same anatomy in every service."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from deploy.services import SECTIONS, SERVICES
from shared.config.settings import PROJECT
from shared.messaging.router import Router
from shared.runtime.service import App

OWN_TABLES = ("harvester", "orchestrator", "verifier", "registry", "gateway")  # the forge's work is files and facts


def test_the_import_contracts_hold() -> None:
    found = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=PROJECT, capture_output=True, text=True, check=False
    )

    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_the_same_anatomy(service: str) -> None:
    entry, handlers, reconcile, settings = (
        importlib.import_module(f"services.{service}.{name}") for name in ("app", "handlers", "reconcile", "settings")
    )

    assert isinstance(entry.app, App) and isinstance(handlers.router, Router)
    assert (entry.app.name, entry.app.router, entry.app.build) == (service, handlers.router, entry.build)
    assert handlers.router.service == service and handlers.router.subscriptions
    assert [name for name in vars(reconcile).keys() & vars(entry).keys() if is_from(getattr(entry, name), reconcile)]
    assert [kind for kind in SECTIONS if is_from(kind, settings)]


def is_from(thing: object, module: ModuleType) -> bool:
    return getattr(thing, "__module__", None) == module.__name__


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_sql_and_views_exactly_where_it_owns_tables(service: str) -> None:
    folder = PROJECT / "services" / service
    pieces = {"store.py", "views.py", f"migrations/0001_{service}.sql"}

    assert {piece for piece in pieces if (folder / piece).is_file()} == (pieces if service in OWN_TABLES else set())
    assert (service in OWN_TABLES) == any("CREATE TABLE" in file.read_text() for file in folder.rglob("*.sql"))


def test_only_settings_modules_and_job_entries_read_the_environment() -> None:
    readers = {
        str(path.relative_to(PROJECT))
        for ring in ("shared", "services", "deploy")
        for path in (PROJECT / ring).rglob("*.py")
        if "os.environ" in path.read_text() or "os.getenv(" in path.read_text()
    }

    assert readers <= {
        "services/forge/trainer/__main__.py",
        "services/verifier/evaluator/__main__.py",
        "deploy/embedded/phoenix_pages.py",
        "deploy/embedded/stack.py",
    }
