"""Check what was uploaded, one file after the other in a process of its own; and settle what a killed gateway left on the disk."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from services.gateway.files import store
from services.gateway.files.check import Checked
from shared.config.settings import PROJECT
from shared.storage.artifacts import sync

if TYPE_CHECKING:
    from pathlib import Path

    from shared.storage.postgres import Pool

CHECK_S = 3600.0  # of 512 MiB on a slow machine
PROGRAM = (sys.executable, "-m", "services.gateway.files.check")
PARTIAL = ".partial"  # ends the name of a file until its row is there
log = structlog.get_logger()


class Checks:
    """The checks of the files below `home`. `writing`: the uploads under way."""

    def __init__(self, home: Path) -> None:
        self._home, self._folder = home, store.folder_of(home)
        self.writing: set[str] = set()
        self.woken = asyncio.Event()

    async def run(self, pool: Pool) -> float | None:
        """Check the smallest file that was not checked yet; returns the seconds until the next pass where there are others.

        One in a pass, so that a small file that comes during the check of a large one is the next.
        """
        files = [file for file in await store.list_unchecked(pool, self._home) if file.id not in self.writing]
        if not files:
            return None
        checked = await self._check(files[0].path)
        await store.record_checked(pool, files[0].id, checked.examples, checked.records, checked.why)
        log.info("file checked", file=files[0].id, examples=checked.examples, wrong=checked.wrong)
        return 0.0 if files[1:] else None

    async def _check(self, path: Path) -> Checked:
        process = await asyncio.create_subprocess_exec(*PROGRAM, path, stdout=PIPE, stderr=PIPE, cwd=PROJECT, env={})
        try:
            async with asyncio.timeout(CHECK_S):
                found, errors = await process.communicate()
            if process.returncode == 0:
                return Checked.model_validate_json(found)
            why = errors.decode(errors="replace").strip().rpartition("\n")[2]
            log.error("the check of a file failed", file=path.name, status=process.returncode, error=why)
        except TimeoutError:
            log.error("the check of a file took too long", file=path.name, seconds=CHECK_S)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        return Checked(examples=0, records=0, wrong=1, faults=("its check failed: the gateway's log has the reason",))

    async def settle(self, pool: Pool) -> None:
        """End what was interrupted: an upload whose row is there is whole, one without is removed; so is what was deleted."""
        if not self._folder.is_dir():
            return
        names = {path.name.removesuffix(PARTIAL): path for path in self._folder.iterdir()}
        deleted = await store.list_known(pool, list(names))
        for id, path in names.items():
            unfinished = path.name.endswith(PARTIAL)
            if id in self.writing:
                continue
            if deleted.get(id, unfinished):
                path.unlink(missing_ok=True)
            elif unfinished:
                path.rename(self._folder / id)
        await asyncio.to_thread(sync, self._folder)
