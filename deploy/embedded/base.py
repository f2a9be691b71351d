"""The embedded base model, prepared once into the models folder.

`soulforge up` does it; `python -m deploy.embedded.base` does it alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from deploy.embedded.preflight import PreflightError
from deploy.services import load_configuration
from shared.config.settings import Settings
from shared.config.tables import EMBEDDED_BASE
from shared.storage.artifacts import publish
from shared.storage.base_model import CONFIG

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.config.model import Configuration


def prepare(settings: Settings, configuration: Configuration, announce: Callable[[str], None]) -> None:
    """Convert the model of its wheel, where a rune serves it and it is missing. The folder appears whole or not at all."""
    target = settings.models_dir / EMBEDDED_BASE
    if EMBEDDED_BASE not in configuration.bases_in_use() or EMBEDDED_BASE in configuration.bases:
        return
    if os.path.lexists(target):
        if not (target / CONFIG).is_file():
            raise PreflightError(
                f"{target} holds no base model ({CONFIG} is missing), and was not made by Soulforge: move it away, or "
                "complete it; where it is missing, `soulforge up` prepares it"
            )
        return
    announce(f"preparing {EMBEDDED_BASE} (once, about 20 s)")
    target.parent.mkdir(parents=True, exist_ok=True)
    # The folder may be the owner's, with downloads of theirs: this name is used by nothing else.
    partial = target.with_name(f".{target.name}.soulforge-partial")
    shutil.rmtree(partial, ignore_errors=True)
    converted = subprocess.run(
        [str(configuration.jobs.python), "-m", "deploy.embedded.convert", str(partial)],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(target.parent),
            "PYTHONPATH": str(settings.project),
            "HF_HUB_OFFLINE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if converted.returncode:
        raise PreflightError(f"the base model could not be prepared:\n{converted.stderr.strip()[-1500:]}")
    # It is no secret, and jobs may run as another user; safetensors are written for their owner alone.
    for path in (partial, *partial.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    publish(partial, target)


if __name__ == "__main__":
    environment = Settings()
    prepare(environment, load_configuration(environment), print)
