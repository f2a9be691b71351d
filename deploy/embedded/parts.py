"""The parts of the embedded stack: three servers and the five services. The rune belongs to the orchestrator."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from functools import partial

from deploy.embedded import nats, phoenix, postgres
from deploy.embedded.part import Part, answers
from deploy.services import SERVICES, service_url
from shared.config.load import find
from shared.config.settings import Settings


def parts(settings: Settings, environment: Mapping[str, str]) -> list[Part]:
    """Everything to supervise. `environment` is what the services inherit: it carries addresses and secrets."""
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
    ours = {
        "SOULFORGE_HOME": str(settings.home),
        "SOULFORGE_PORT_BASE": str(settings.port_base),
        "SOULFORGE_MODELS": str(settings.models_dir),
        "PYTHONUNBUFFERED": "1",
    }
    if path := find(settings):
        # A service runs in the home, where a relative path would be another file.
        ours["SOULFORGE_CONFIG"] = str(path.absolute())
    return Part(
        service,
        (sys.executable, "-m", "deploy.bootstrap", service),
        settings.home,
        {**environment, **ours},
        partial(answers, f"{service_url(settings, service)}/health/live"),
        ready_s=120.0,
        grace_s=25.0,
        needs=("postgres", "nats"),
    )
