"""The parts of the embedded stack: three servers and the five services. The rune is the orchestrator's own."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from functools import partial

import httpx

from deploy.embedded import nats, phoenix, postgres
from deploy.embedded.part import Part
from shared.configuration.file import find
from shared.settings import SERVICES, Settings


def parts(settings: Settings, environment: Mapping[str, str]) -> list[Part]:
    """Everything to supervise. `environment` is what the services inherit: it carries their own settings."""
    home = settings.home
    return [
        Part(
            "postgres",
            postgres.command(settings),
            home,
            {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},
            partial(postgres.ready, settings),
            stop_signal=signal.SIGINT,
            grace_s=30.0,
        ),
        Part("nats", nats.command(settings), home, {"PATH": "/usr/bin:/bin"}, partial(nats.ready, settings)),
        Part(
            "phoenix",
            phoenix.command(),
            home,
            phoenix.environment(settings),
            partial(phoenix.ready, settings),
            ready_s=180.0,
            needs=("postgres",),
        ),
        *(_service(settings, environment, service) for service in SERVICES),
    ]


def _service(settings: Settings, environment: Mapping[str, str], service: str) -> Part:
    told = {
        "SOULFORGE_HOME": str(settings.home),
        "SOULFORGE_PORT_BASE": str(settings.port_base),
        "PYTHONUNBUFFERED": "1",
    }
    if path := find(settings):
        # A service runs in the house's home, where a relative name means another file.
        told["SOULFORGE_CONFIG"] = str(path.absolute())
    return Part(
        service,
        (sys.executable, "-m", "deploy.bootstrap", service),
        settings.home,
        {**environment, **told},
        partial(_live, f"{settings.service_url(service)}/health/live"),
        ready_s=120.0,
        grace_s=25.0,
        needs=("postgres", "nats"),
    )


async def _live(url: str) -> bool:
    try:
        async with httpx.AsyncClient(timeout=2) as client:
            return (await client.get(url)).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
