"""The log of a process: one JSON object a line on stdout, in ASCII, whatever libraries log, warn of, print or raise."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Callable
from typing import TextIO

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import Processor

log = structlog.get_logger()


def configure_logging(level: str, service: str) -> None:
    """Write logs as JSON from now on. What a process prints is logged by the line; only what is written in C is not."""
    stream = sys.__stdout__ or io.StringIO()
    described: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendered: list[Processor] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[*described, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(file=stream),  # one write a line: threads do not mix theirs
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[*described, structlog.stdlib.add_logger_name],
            processors=[ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for library in list(logging.root.manager.loggerDict):
        logging.getLogger(library).handlers.clear()  # faststream has one of its own
        logging.getLogger(library).propagate = True
    for chatty in ("httpx", "nats", "opentelemetry"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    _log_the_rest()


def _log_the_rest() -> None:
    """Log warnings, exceptions that nothing catches, and what is printed."""
    logging.captureWarnings(True)
    sys.excepthook = lambda *error: log.critical("uncaught exception", exc_info=error)
    sys.unraisablehook = lambda error: log.error(
        "exception that cannot be raised",
        object=repr(error.object),
        exc_info=(error.exc_type, error.exc_value, error.exc_traceback),
    )
    threading.excepthook = lambda error: log.critical(
        "uncaught exception in a thread",
        thread=error.thread and error.thread.name,
        exc_info=(error.exc_type, error.exc_value, error.exc_traceback),
    )
    sys.stdout = _LoggedLines(sys.__stdout__, log.info)
    sys.stderr = _LoggedLines(sys.__stderr__, log.error)


class _LoggedLines(io.TextIOBase):
    """A stream for what is printed: every line of it is logged."""

    def __init__(self, replaced: TextIO | None, write_line: Callable[..., object]) -> None:
        self._replaced = replaced
        self._write_line = write_line
        self._unended = ""
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        with self._lock:
            *lines, self._unended = (self._unended + text).split("\n")
        for line in filter(str.strip, lines):
            self._write_line("printed", text=line)
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """Return the descriptor of the stream that this one replaces: a child process may inherit it."""
        return self._replaced.fileno() if self._replaced else super().fileno()
