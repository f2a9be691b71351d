"""State of a closed gate and the command that closes it. Plain values; time comes from outside."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

RETRY_AFTER_S = 30.0


@dataclass(frozen=True)
class CloseCommand:
    """A command to close the gate: the reason that clients are shown, and when they may try again."""

    reason: str
    retry_after_s: float = RETRY_AFTER_S


@dataclass(frozen=True)
class Closed:
    """Why and since when no request is admitted, and how many were refused."""

    command: CloseCommand
    since: datetime
    refused: int = 0

    @property
    def message(self) -> str:
        return (
            f"inference is closed since {self.since:%Y-%m-%dT%H:%M:%SZ}: {self.command.reason}; "
            f"ask again in {self.command.retry_after_s:.0f} s"
        )

    def again(self, command: CloseCommand) -> Closed:
        """Close a closed gate: the newest reason counts, with the time of the first."""
        return replace(self, command=command)

    def one_more(self) -> Closed:
        return replace(self, refused=self.refused + 1)


def parse_close(body: bytes) -> CloseCommand:
    """Parse the body of a close request. Raises ValueError with what is wrong with it."""
    try:
        given: Any = json.loads(body or b"{}")
    except ValueError as wrong:
        raise ValueError(f"the body is not JSON: {wrong}") from None
    if not isinstance(given, dict) or given.keys() - {"reason", "retry_after_s"}:
        raise ValueError("the body must be a JSON object with `reason` and `retry_after_s`, and nothing else")
    reason, seconds = given.get("reason"), given.get("retry_after_s", RETRY_AFTER_S)
    if not isinstance(reason, str) or not reason.strip():
        raise ValueError("`reason` must be a text: clients are shown it")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= 86_400:
        raise ValueError("`retry_after_s` must be a number of seconds from 0 to 86400")
    return CloseCommand(" ".join(reason.split())[:500], float(seconds))
