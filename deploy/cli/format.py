"""Ids, times and sizes as people read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from deploy.cli.errors import Mistake

MINUTE_S = 60
HOUR_S = 3600
DAY_S = 86400
SHORT_ID = 8
DIGEST_SHOWN = 12
UNIT = 1024


def short_digest(digest: str) -> str:
    """The start of a digest, as people tell digests apart."""
    return digest.removeprefix("sha256:")[:DIGEST_SHOWN]


def short(ritual: Any) -> str:
    """The start of a ritual's id, enough to name it again."""
    return str(ritual)[:SHORT_ID]


def duration(seconds: float | None) -> str:
    """`0.4 s`, `12 s`, `3 m 05 s`, `2 h 04 m`, `3 d 4 h`."""
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


def seconds_of(text: str) -> float:
    """Read `30s`, `10m`, `2h`, `1d`, `1h30m` or plain seconds. Raises Mistake for anything else."""
    units = {"s": 1, "m": MINUTE_S, "h": HOUR_S, "d": DAY_S}
    compact = "".join(text.lower().split())
    if re.fullmatch(r"\d+(\.\d+)?", compact):
        return float(compact)
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise Mistake(f"{text!r} is no duration: write it like 30s, 10m or 2h")
    return sum(float(number) * units[unit] for number, unit in parts)


def ago(moment: datetime, now: datetime | None = None) -> str:
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
