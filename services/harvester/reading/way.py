"""How records are read, as it passes to another process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.harvester.reading.reader import Reader
from services.harvester.redaction.policy import RedactionPolicy


@dataclass(frozen=True)
class Way:
    redaction: RedactionPolicy
    split_key: str
    benchmarks: Path
    purpose: str
    with_bands: bool

    def reader(self) -> Reader:
        return Reader(self.redaction, self.split_key, self.benchmarks, self.with_bands)
