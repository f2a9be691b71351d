"""A service as `python -m deploy.bootstrap NAME` runs it, with the jobs of this folder: `python -m tests.chaos.service NAME`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from unittest.mock import patch

from deploy import bootstrap
from deploy.services import load_app
from services.forge import app as forge
from services.verifier import app as verifier
from shared.runtime.service import App

JOB = "tests.chaos.job"
SHORT = {
    "forge": replace(forge.app, build=partial(forge.build, trainer=JOB)),
    "verifier": replace(verifier.app, build=partial(verifier.build, evaluator=JOB)),
}


def load_short(name: str) -> App:
    return SHORT.get(name) or load_app(name)


if __name__ == "__main__":
    with patch.object(bootstrap, "load_app", load_short):
        bootstrap.main()
