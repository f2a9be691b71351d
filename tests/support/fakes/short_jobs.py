"""The embedded stack with the short jobs of this folder in place of trainer and evaluator.

`python -m tests.support.fakes.short_jobs` puts it up as `soulforge up` does; `python -m tests.support.fakes.short_jobs SERVICE` is how
its supervisor enters the two services whose jobs are short.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from deploy.bootstrap import prepare
from deploy.embedded import parts, stack
from deploy.embedded.part import Part
from deploy.services import load_configuration, migrations, service_port
from services.forge import app as forge
from services.verifier import app as verifier
from shared.config.settings import PROJECT, Settings
from shared.runtime.logs import configure_logging
from shared.runtime.service import main as run_service

SHORT = {
    "forge": replace(forge.app, build=partial(forge.build, trainer="tests.support.fakes.fake_trainer")),
    "verifier": replace(verifier.app, build=partial(verifier.build, evaluator="tests.support.fakes.fake_evaluator")),
}


def parts_with_short_jobs(settings: Settings, environment: Mapping[str, str]) -> list[Part]:
    return [_short(part) if part.name in SHORT else part for part in parts.parts(settings, environment)]


def _short(part: Part) -> Part:
    command = (sys.executable, "-m", "tests.support.fakes.short_jobs", part.name)
    return replace(part, command=command, env={**part.env, "PYTHONPATH": str(PROJECT)})


def main() -> None:
    if len(sys.argv) > 1:
        settings = Settings()
        configuration = load_configuration(settings)
        configure_logging(configuration.runtime.log_level, sys.argv[1])
        asyncio.run(prepare(settings))
        port = service_port(settings, sys.argv[1])
        run_service(SHORT[sys.argv[1]], settings, configuration, port, migrations())
        return
    stack.parts = parts_with_short_jobs  # type: ignore[attr-defined] # the name that `run` calls
    sys.exit(stack.run(Settings(), lambda line: print(line, flush=True)))


if __name__ == "__main__":
    main()
