"""How an evaluation ends without results."""

from __future__ import annotations


class InputError(Exception):
    """An input can never be evaluated as it is; the message says which and why."""
