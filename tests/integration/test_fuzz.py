"""A seeded share of the faults of `make test-fuzz`: an awaited call fails, and no ritual stays stuck."""

from __future__ import annotations

import asyncio
import json
import sys

from shared.config.settings import PROJECT

SEED = 1
SHARE = 0.02
LEAST_FIRED = 100
WITHIN_S = 400


async def test_no_fault_at_an_awaited_call_leaves_a_ritual_stuck() -> None:
    """In a process of its own: the services are rewritten while they are imported."""
    command = (sys.executable, "-m", "tests.fuzz.run", "--seed", str(SEED), "--share", str(SHARE))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=PROJECT, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
    try:
        async with asyncio.timeout(WITHIN_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    text = output.decode()
    assert process.returncode == 0, text[-6000:]
    found = json.loads(text[text.rindex("\n{\n") :])
    assert found["stuck"] == [] and found["faults"] >= LEAST_FIRED
    assert found["reached"] > found["sites"] / 2
