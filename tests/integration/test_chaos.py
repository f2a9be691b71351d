"""A short history of `make test-chaos`: real processes meet faults while intents arrive, and no promise is broken."""

from __future__ import annotations

import asyncio
import json
import sys

from shared.config.settings import PROJECT

SEED = 1
MINUTES = 1.0
LEAST_FAULTS = 15
LEAST_KINDS = 8
WITHIN_S = 420


async def test_a_history_of_faults_loses_doubles_and_blocks_nothing() -> None:
    command = (sys.executable, "-m", "tests.chaos.run", "--seed", str(SEED), "--minutes", str(MINUTES))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=PROJECT, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(WITHIN_S):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, f"{output.decode()[-6000:]}\n{errors.decode()[-2000:]}"
    found = json.loads(output)
    assert found["breaches"] == [] and found["faults"] >= LEAST_FAULTS
    assert len(found["faults_by_kind"]) >= LEAST_KINDS and found["rituals"] > 0
