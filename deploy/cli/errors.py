"""What can go wrong around a command, as text for its user; none of it ends in a traceback."""

from __future__ import annotations

PROJECT_MODULES = ("deploy.", "services.", "shared.")


class UserError(Exception):
    """The command cannot be done as it was given; the message has the reason and what to do."""


def user_text(error: BaseException) -> str | None:
    """The text that a user sees for this error, or None for a fault of this program.

    The project's own errors are written for users, so their text is enough.
    """
    if isinstance(error, BaseExceptionGroup):
        return user_text(error.exceptions[0])
    if type(error).__module__.startswith(PROJECT_MODULES):
        return str(error) or type(error).__name__
    return None


class UnreachableError(UserError):
    """The database does not answer, or takes no writes."""
