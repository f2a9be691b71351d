"""The parts of the embedded stack: up to three servers and the six services. The rune belongs to the orchestrator."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from deploy.embedded import nats, phoenix_pages, postgres
from deploy.embedded.part import Part, answers
from deploy.services import SERVICES, service_url
from shared.config.load import find
from shared.config.settings import Settings
from shared.contracts.roles import Role


def parts(settings: Settings, environment: Mapping[str, str]) -> list[Part]:
    """Everything to supervise: no server that the owner runs. `environment` is what the services inherit: addresses, secrets."""
    servers = []
    if settings.database is None:
        servers.append(_postgres(settings))
    if settings.nats is None:
        servers.append(
            Part(
                "nats", nats.command(settings), settings.home, {"PATH": "/usr/bin:/bin"}, partial(nats.ready, settings)
            )
        )
    needs = tuple(server.name for server in servers)
    if settings.phoenix is None:
        servers.append(phoenix(settings))
    return [*servers, *(_service(settings, environment, service, needs) for service in SERVICES)]


def _postgres(settings: Settings) -> Part:
    return Part(
        "postgres",
        postgres.command(settings),
        settings.home,
        {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},
        partial(postgres.ready, settings),
        live=partial(postgres.live, settings),
        stop_signal=signal.SIGINT,
        grace_s=30.0,
    )


def phoenix(settings: Settings) -> Part:
    """Phoenix. Its tables are in schema `traces` of our PostgreSQL; it makes no connection to the internet."""
    folder = settings.home / "phoenix"
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_HOST": settings.host,
        "PHOENIX_PORT": str(settings.port("phoenix")),
        "PHOENIX_GRPC_PORT": str(settings.port("phoenix-grpc")),
        "PHOENIX_SQL_DATABASE_URL": settings.database_url("phoenix"),
        "PHOENIX_FASTAPI_MIDDLEWARE_PATHS": f"{phoenix_pages.__file__}:{phoenix_pages.RefusePages.__name__}",
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
        # A golden path must be copied out of a trace before it may go.
        "PHOENIX_DEFAULT_RETENTION_POLICY_DAYS": "0",
    }
    if settings.database_roles == "one":
        # A role of its own has the schema as its search path; to name it here, Phoenix would have to create schemas.
        environment["PHOENIX_SQL_DATABASE_SCHEMA"] = "traces"
    return Part(
        "phoenix",
        (str(Path(sys.executable).parent / "phoenix"), "serve"),
        settings.home,
        environment,
        partial(answers, f"{settings.phoenix_url}/healthz"),
        ready_s=180.0,
        # In a database of the owner's it is the first service that makes Phoenix's role.
        needs=("postgres",) if settings.database is None else SERVICES[:1],
    )


def _service(settings: Settings, environment: Mapping[str, str], service: str, needs: tuple[str, ...]) -> Part:
    ours = {
        "SOULFORGE_HOME": str(settings.home),
        "SOULFORGE_PORT_BASE": str(settings.port_base),
        "SOULFORGE_MODELS": str(settings.models_dir),
        "PYTHONUNBUFFERED": "1",
    }
    if path := find(settings):
        # A service runs in the home, where a relative path would be another file.
        ours["SOULFORGE_CONFIG"] = str(path.absolute())
    # The gateway's door opens without the servers, and answers also while they are away.
    is_door = service == Role.GATEWAY
    return Part(
        service,
        (sys.executable, "-m", "deploy.bootstrap", service),
        settings.home,
        # Each service has a key of its own in the home.
        {**{name: value for name, value in environment.items() if name != "SOULFORGE_NATS_KEY"}, **ours},
        partial(
            answers, f"{settings.gateway_url}/health" if is_door else f"{service_url(settings, service)}/health/live"
        ),
        ready_s=120.0,
        grace_s=25.0,
        needs=() if is_door else needs,
    )
