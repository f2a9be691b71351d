"""Ids, times and sizes as text for people."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from uuid import UUID

from deploy.cli.errors import UserError

MINUTE_S = 60
HOUR_S = 3600
DAY_S = 86400
LONGEST_DAYS = 36500  # a moment that is this far away is still one that can be stored
SHORT_ID = 8
DIGEST_SHOWN = 12
UNIT = 1024


def short_digest(digest: str) -> str:
    """The first digits of a digest."""
    return digest.removeprefix("sha256:")[:DIGEST_SHOWN]


def short_id(ritual: UUID) -> str:
    """The first digits of a ritual's id, enough to name it in a command."""
    return str(ritual)[:SHORT_ID]


def duration(seconds: float | None) -> str:
    """A span of time: `0.4 s`, `12 s`, `3 m 05 s`, `2 h 04 m`, `3 d 4 h`."""
    if seconds is None:
        return "–"
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < MINUTE_S:
        return f"{whole} s"
    if whole < HOUR_S:
        return f"{whole // MINUTE_S} m {whole % MINUTE_S:02d} s"
    if whole < DAY_S:
        return f"{whole // HOUR_S} h {whole % HOUR_S // MINUTE_S:02d} m"
    return f"{whole // DAY_S} d {whole % DAY_S // HOUR_S} h"


def parse_duration(text: str) -> float:
    """Parse `30s`, `10m`, `2h`, `1d`, `1h30m` or plain seconds. Raises UserError for anything else."""
    units = {"s": 1, "m": MINUTE_S, "h": HOUR_S, "d": DAY_S}
    compact = "".join(text.lower().split())
    if re.fullmatch(r"\d+(\.\d+)?", compact):
        compact += "s"
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise UserError(f"{text!r} is not a duration: write it like 30s, 10m or 2h")
    seconds = sum(float(number) * units[unit] for number, unit in parts)
    if seconds > LONGEST_DAYS * DAY_S:
        raise UserError(f"{text!r} is longer than {LONGEST_DAYS} days")
    return seconds


def ago(moment: datetime, now: datetime | None = None) -> str:
    """How long ago a moment was: `3 m 05 s ago`."""
    return f"{duration(((now or datetime.now(UTC)) - moment).total_seconds())} ago"


def size(count: float | None) -> str:
    """Bytes in binary units: `512 B`, `3.1 GiB`."""
    if count is None:
        return "–"
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < UNIT:
            return f"{count:.0f} {unit}"
        count /= UNIT
    return f"{count:.1f} GiB"
