"""A service whose libraries are noisy: `python -m tests.support.noisy` is the forge, with loops that fail in every way."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
import traceback
import warnings
from dataclasses import replace
from unittest.mock import patch

import nats

from deploy import bootstrap
from services.forge import app as forge
from shared.runtime.context import ServiceContext
from shared.runtime.loops import Loop
from shared.runtime.service import App, Service

HOSTILE = "two\nlines, \x1b[31mred\x1b[0m, \x9b, \u2028, \u202e, \ud800, naïve"
NOISES = (
    "loop", "task", "thread", "library", "bad arguments", "warning", "printed", "printed to stderr", "print_exc",
    "unraisable", "callback", "uvicorn",
)  # fmt: skip


class Fault(Exception):
    """Has what no line of a log may have."""

    def __init__(self, noise: str) -> None:
        super().__init__(f"noise of {noise}: {HOSTILE}")


class Unraisable:
    def __del__(self) -> None:
        raise Fault("unraisable")


def fail(noise: str) -> None:
    raise Fault(noise)


async def make_noise() -> None:
    library = logging.getLogger("some.library")
    try:
        fail("library")
    except Fault:
        library.exception("it failed: %s", HOSTILE)
        traceback.print_exc()
    logging.getLogger("uvicorn.error").error("noise of uvicorn")
    library.error("noise of bad arguments %d", "x")
    warnings.warn(f"noise of warning: {HOSTILE}", stacklevel=1)
    print(f"noise of printed: {HOSTILE}", end="\n\n")
    print(f"noise of printed to stderr: {HOSTILE}", file=sys.stderr)
    print(f"noise of print_exc: {HOSTILE}", file=sys.stderr)
    threading.Thread(target=fail, args=("thread",)).start()
    Unraisable()
    asyncio.get_running_loop().call_soon(fail, "callback")
    task = asyncio.create_task(asyncio.to_thread(fail, "task"))
    await asyncio.wait({task})
    del task
    gc.collect()
    try:
        await nats.connect("nats://127.0.0.1:1", max_reconnect_attempts=1, reconnect_time_wait=0, connect_timeout=1)
    except Exception:
        print("noise of nats")
    raise Fault("loop")


def build(context: ServiceContext) -> Service:
    service = forge.build(context)
    return replace(service, loops=(*service.loops, Loop("noise", make_noise, 60)))


def load_noisy(name: str) -> App:
    return replace(forge.app, build=build)


if __name__ == "__main__":
    with patch.object(bootstrap, "load_app", load_noisy):
        bootstrap.main()
