"""The embedded base model, prepared once into the models folder; and the digest of every base in use.

`soulforge up` does it; `python -m deploy.embedded.base` does it alone.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from typing import TYPE_CHECKING

from deploy.embedded.preflight import PreflightError
from deploy.services import load_configuration
from shared.config.settings import Settings
from shared.config.tables import EMBEDDED_BASE
from shared.storage.base_model import Bases

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shared.config.model import Configuration


async def prepare(settings: Settings, configuration: Configuration, announce: Callable[[str], None]) -> None:
    """Make the embedded base where it is in use and missing, and check every base. Raises PreflightError or BaseError."""
    bases, used = Bases(settings, configuration), configuration.bases_in_use()
    target = bases.path(EMBEDDED_BASE)
    if EMBEDDED_BASE in used and EMBEDDED_BASE not in configuration.bases and not target.exists():
        announce(f"preparing {EMBEDDED_BASE} (once, about 20 s)")
        await asyncio.to_thread(_convert, settings, configuration.jobs.python, target)
    for name in used:
        await bases.get(name)


def _convert(settings: Settings, python: Path, target: Path) -> None:
    """Convert the model of its wheel. The folder appears whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    converted = subprocess.run(
        [str(python), "-m", "deploy.embedded.convert", str(partial)],
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
    partial.replace(target)


def main() -> None:
    settings = Settings()
    asyncio.run(prepare(settings, load_configuration(settings), print))


if __name__ == "__main__":
    main()
