"""What the gate knows: whether it is open, why not, and what went through. Plain values; time comes from outside."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

RETRY_AFTER_S = 30.0


@dataclass(frozen=True)
class Order:
    """A command to close: why, and when clients may ask again. The reason is shown to clients."""

    reason: str
    retry_after_s: float = RETRY_AFTER_S


@dataclass(frozen=True)
class Closed:
    """Why and since when nothing is admitted."""

    order: Order
    since: datetime
    refused: int = 0

    @property
    def message(self) -> str:
        return (
            f"inference is closed since {self.since:%Y-%m-%dT%H:%M:%SZ}: {self.order.reason}; "
            f"ask again in {self.order.retry_after_s:.0f} s"
        )

    def again(self, order: Order) -> Closed:
        """Closed once more: the newest reason counts, the time of the first."""
        return replace(self, order=order)

    def one_more(self) -> Closed:
        return replace(self, refused=self.refused + 1)


def read_order(body: bytes) -> Order:
    """The command in a request's body. Raises ValueError with what is wrong with it."""
    try:
        said: Any = json.loads(body or b"{}")
    except ValueError as wrong:
        raise ValueError(f"the body is not JSON: {wrong}") from None
    if not isinstance(said, dict) or said.keys() - {"reason", "retry_after_s"}:
        raise ValueError("the body must be a JSON object with `reason` and `retry_after_s`, and nothing else")
    reason, seconds = said.get("reason"), said.get("retry_after_s", RETRY_AFTER_S)
    if not isinstance(reason, str) or not reason.strip():
        raise ValueError("`reason` must be a text that tells clients why")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= 86_400:
        raise ValueError("`retry_after_s` must be a number of seconds from 0 to 86400")
    return Order(" ".join(reason.split())[:500], float(seconds))
