"""Why an engine's gate is closed."""

from __future__ import annotations

from datetime import UTC, datetime

from shared.contracts.frozen import Frozen


class Closed(Frozen):
    """Why and since when a gate is closed. The newest command has the reason, the first one the time."""

    reason: str
    retry_after_s: float
    since: datetime
    commanded_at: datetime

    def left_s(self) -> float:
        """Seconds until it is expected to open; at least one."""
        return max(1.0, self.retry_after_s - (datetime.now(UTC) - self.commanded_at).total_seconds())
