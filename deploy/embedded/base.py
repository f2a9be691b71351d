"""The base model, prepared once into the models directory, with its digest beside it.

`soulforge up` does it; `python -m deploy.embedded.base` does it alone.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from deploy.embedded.preflight import PreflightError
from shared.config.settings import Settings
from shared.storage.base_model import digest_file_of
from shared.storage.digests import digest_tree

if TYPE_CHECKING:
    from collections.abc import Callable


def prepare(settings: Settings, announce: Callable[[str], None]) -> None:
    """Make the base model unless it is there. The directory appears whole or not at all."""
    target = settings.models_dir / settings.base
    if digest_file_of(target).exists():
        return
    announce(f"preparing {settings.base} (once, about 20 s)")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    converted = subprocess.run(
        [str(settings.jobs_python), "-m", "deploy.embedded.convert", str(partial)],
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
    shutil.rmtree(target, ignore_errors=True)
    partial.replace(target)
    digest_file_of(target).write_text(digest_tree(target) + "\n")


if __name__ == "__main__":
    prepare(Settings(), print)
