"""`[tipping]`: when a waiting ritual may take the anvil. Times in seconds."""

from __future__ import annotations

import re
from datetime import UTC, tzinfo
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, field_validator, model_validator

from shared.contracts.frozen import Frozen

YEAR_S = 366 * 86400.0


def _window(text: str) -> str:
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d", text):
        raise ValueError('a window is two times of the day, e.g. "01:00-06:00"')
    return text


Window = Annotated[str, AfterValidator(_window)]


class TippingConfig(Frozen):
    """When a waiting ritual may take the anvil."""

    policy: Literal["immediate", "idle", "window"] = Field(
        "immediate", description="`idle`: when there are no requests; `window`: at times of the day. Default: at once."
    )
    idle_for_s: float = Field(
        120.0, ge=0, le=YEAR_S, description="`idle`: seconds without a request before the anvil is taken."
    )
    busy_above: float = Field(0.0, ge=0, le=1e6, description="`idle`: requests a minute that still count as idle.")
    patience_s: float = Field(
        86400.0,
        ge=1,
        le=YEAR_S,
        description="`idle`: waiting after which any load will do, at priority 5; sooner with more priority or weight.",
    )
    heavy_from: float = Field(
        1000.0, ge=1, description="`idle`: rows of a manifest that halve the patience; fewer shorten it in proportion."
    )
    windows: tuple[Window, ...] = Field((), description='`window`: times of the day, e.g. "01:00-06:00".')
    timezone: str = Field("UTC", description="Zone of the windows and of the day, e.g. Europe/Berlin.")
    away_budget_s: float | None = Field(
        None, gt=0, le=YEAR_S, description="Hard limit of seconds without inference per day."
    )
    expected_away_s: float = Field(
        900.0, gt=0, le=YEAR_S, description="Seconds without inference of a ritual before any was seen."
    )
    refuse_after_s: float | None = Field(None, gt=0, le=YEAR_S, description="A ritual that waits longer is refused.")
    urgent_from: int = Field(
        9, ge=0, le=10, description="Rituals of this priority or more wait for no policy; 10: none."
    )
    promote_after_s: float = Field(
        21600.0, gt=0, le=YEAR_S, description="Seconds of waiting that count as one point of priority in the queue."
    )

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            _zone(name)
        except (KeyError, ValueError, OSError):
            raise ValueError(
                f"time zone {name!r} is not known here: write it like Europe/Berlin, "
                "and install the system's package tzdata where even that one is unknown"
            ) from None
        return name

    @field_validator("windows")
    @classmethod
    def _windows_with_length(cls, windows: tuple[str, ...]) -> tuple[str, ...]:
        for window in windows:
            if window[:5] == window[6:]:
                raise ValueError(f"window {window} begins when it ends: for the whole day, use policy immediate")
        return windows

    @model_validator(mode="after")
    def _can_ever_tip(self) -> Self:
        if self.policy == "window" and not self.windows:
            raise ValueError('policy window needs windows, e.g. windows = ["01:00-06:00"]')
        if self.away_budget_s is not None and self.expected_away_s > self.away_budget_s:
            raise ValueError(
                f"away_budget_s = {self.away_budget_s:g} is less than expected_away_s = {self.expected_away_s:g}: "
                "every first ritual would be refused; raise the budget, or lower expected_away_s where it takes less"
            )
        return self

    @property
    def zone(self) -> tzinfo:
        return _zone(self.timezone)


def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)  # UTC needs no tzdata
