"""What can go wrong around a command, each as one line that says what to do; nothing here ends in a traceback."""

from __future__ import annotations

HOUSE = ("deploy.", "services.", "shared.")


class Mistake(Exception):
    """The command cannot be done as it was given; the message says why and what to do."""


def explain(error: BaseException) -> str | None:
    """The line that a user sees for this error, or None when it is a fault of this program.

    The house's own errors are written for whoever runs it, so their text is enough.
    """
    if isinstance(error, BaseExceptionGroup):
        return explain(error.exceptions[0])
    if type(error).__module__.startswith(HOUSE):
        return str(error) or type(error).__name__
    return None
