"""Stage 1, harvest: an intent becomes a dataset manifest. Recorded by the harvester."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from shared.contracts.frozen import Frozen
from shared.contracts.message import Fact


class SystemPrompt(Frozen):
    """A system prompt of training rows, with its digest. `rows` counts them by what they are trained under: this prompt
    in `full`, a `short` one, or `none`."""

    digest: str
    text: str
    rows: dict[str, int]


class KarmaHarvested(Fact):
    """A manifest was written to the Lab; the sealed holdout is stored apart from it."""

    subject: ClassVar[str] = "karma.harvested"
    step: ClassVar[str] = "harvest"

    manifest: str
    holdout: str
    train: int
    dev: int
    held_out: int
    pairs: int = 0
    labels: int = 0
    tokens: int = 0
    redacted: int = 0
    seen: int
    excluded: dict[str, int]


class KarmaRefused(Fact):
    """There is not enough karma to train on; `reason` names what is missing."""

    subject: ClassVar[str] = "karma.refused"
    step: ClassVar[str] = "harvest"

    reason: str
    seen: int = 0
    excluded: dict[str, int] = Field(default_factory=dict)
