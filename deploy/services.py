"""The services of an installation: names, ports, entry points, tables in soulforge.toml, states each owns, and migrations."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from services.forge.settings import ForgeSettings
from services.gateway.settings import GatewaySettings
from services.harvester.settings import HarvesterSettings, TriggerSettings
from services.orchestrator.settings import OrchestratorSettings
from services.registry.settings import RegistrySettings
from services.verifier.settings import VerifierSettings
from shared.config.load import load
from shared.config.settings import FIRST_SERVICE_PORT, PROJECT
from shared.contracts.ritual import State
from shared.storage.postgres import Migration

if TYPE_CHECKING:
    from shared.config.model import Configuration
    from shared.config.settings import Settings
    from shared.messaging.streams import Subscription
    from shared.runtime.service import App

SERVICES = ("harvester", "orchestrator", "forge", "verifier", "registry", "gateway")

# The service that records the facts leading out of a state.
OWNERS: dict[State, str] = {
    State.INTENDED: "harvester",
    State.HARVESTED: "orchestrator",
    State.EVACUATED: "forge",
    State.FORGED: "verifier",
    State.VERIFIED: "registry",
    State.REGISTERED: "registry",
    State.AWAITING_APPROVAL: "registry",
}

# The tables that services read in soulforge.toml.
SECTIONS = (
    HarvesterSettings,
    TriggerSettings,
    OrchestratorSettings,
    ForgeSettings,
    VerifierSettings,
    RegistrySettings,
    GatewaySettings,
)


def load_configuration(settings: Settings) -> Configuration:
    """The configuration in use, with the tables of all services. Raises ConfigurationError."""
    return load(settings, SECTIONS)


def service_port(settings: Settings, service: str) -> int:
    """The TCP port on which a service answers health and metrics."""
    return settings.port_base + FIRST_SERVICE_PORT + SERVICES.index(service)


def service_url(settings: Settings, service: str) -> str:
    return f"http://{settings.url_host}:{service_port(settings, service)}"


def load_app(service: str) -> App:
    """Import the entry point of a service."""
    app: App = importlib.import_module(f"services.{service}.app").app
    return app


def subscriptions(services: Iterable[str] = SERVICES) -> list[Subscription]:
    """The durable consumers of these services."""
    return [subscription for service in services for subscription in load_app(service).router.subscriptions]


def migrations() -> list[Migration]:
    """Every migration in the order in which they are applied, each with the schema it belongs to."""
    files = [("public", path) for path in sorted((PROJECT / "shared/ritual/migrations").glob("*.sql"))]
    for service in SERVICES:
        for folder in ("shared/messaging/migrations", f"services/{service}/migrations"):
            files += [(service, path) for path in sorted((PROJECT / folder).glob("*.sql"))]
    return [Migration(owner, path) for owner, path in files]
