"""A tool of the tests in a process of its own, which prints a report as JSON at its end."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from shared.config.settings import PROJECT

SHOWN = 6000  # characters of the output of one that failed


async def report_of(module: str, within_s: float, **options: object) -> dict[str, Any]:
    """The report of `python -m module --option value …`; fails with its output where it does not exit with 0."""
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *words),
        cwd=PROJECT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(within_s):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    text = f"\n{output.decode()}"
    assert process.returncode == 0, text[-SHOWN:]
    report: dict[str, Any] = json.loads(text[text.rindex("\n{\n") :])
    return report
