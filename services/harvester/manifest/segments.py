"""Writes segments: a stretch of a persona's karma in order of time, decided and written once.

Where a segment begins depends on the id of the record there (content-defined chunking, as in LBFS, SOSP 2001), so the
same karma makes the same segments in whatever order it came, and new karma leaves old segments as they are.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import orjson

from services.harvester.copied import text
from services.harvester.manifest.rows import FILES, File, Used, rows
from services.harvester.policy import Prompts
from services.harvester.split import Split
from shared.storage.artifacts import Artifacts, publish
from shared.storage.digests import PREFIX

SHARD = "rows.jsonl"
SCRATCH = "harvest-"  # begins the name of what is not finished
PIECE = 1 << 20  # bytes that are written at once
SIDES = {str(side).encode(): side for side in Split}


@dataclass
class Written:
    """One file of a segment."""

    digest: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class KnownSegment:
    """What it takes to join a segment to a manifest; `excluded` counts by reason."""

    key: str
    files: dict[str, Written]
    statistics: dict[str, Any]
    excluded: dict[str, int]


@dataclass
class Segment:
    """What a segment holds, and who is in it."""

    key: str
    used: list[str] = field(default_factory=list)
    excluded: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, Written] = field(default_factory=dict)
    statistics: dict[str, Any] = field(default_factory=dict)


#: Side, tokens, source and kind of a record that is used, as COPY writes them: what is counted of it. Many are alike in it.
Counted = tuple[bytes, bytes, bytes, bytes]


@dataclass(frozen=True)
class Content:
    """What a record holds, as JSON; its digest tells whether that is what was decided on."""

    digest: str
    redacted: bool
    messages: str
    tools: str


class _Shard:
    """A file that is counted and hashed while it is written, in large pieces; it comes to be with its first piece."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._waiting: list[bytes] = []
        self._room = PIECE
        self._rows = self._bytes = 0

    def write(self, row: dict[str, Any]) -> None:
        self.append([orjson.dumps(row, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)])

    def append(self, lines: list[bytes]) -> None:
        self._waiting += lines
        self._rows += len(lines)
        self._room -= sum(map(len, lines))
        if self._room < 0:
            self._write_out()

    def close(self) -> Written | None:
        if not self._rows:
            return None
        file = self._write_out()
        file.flush()
        os.fsync(file.fileno())
        file.close()
        return Written(PREFIX + self._hash.hexdigest(), self._rows, self._bytes)

    def _write_out(self) -> BinaryIO:
        if self._file is None:
            self._path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
            self._file = self._path.open("wb")
        piece = b"".join(self._waiting)
        self._hash.update(piece)
        self._file.write(piece)
        self._bytes += len(piece)
        self._waiting.clear()
        self._room = PIECE
        return self._file


class SegmentWriter:
    """Takes the records of one segment in order; nothing is at its place before all of it is."""

    def __init__(self, artifacts: Artifacts, key: str, persona: str, prompts: Prompts) -> None:
        self._artifacts, self._persona, self._prompts = artifacts, persona, prompts
        self._scratch = artifacts.scratch() / f"{SCRATCH}{uuid4().hex}"
        self._shards = {file: _Shard(self._scratch / _part(file) / file / SHARD) for file in File}
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._used: Counter[Counted] = Counter()
        self._formed: Counter[str] = Counter()
        self.segment = Segment(key)

    def use(self, record: Used, counted: Counted, found: dict[str, int] | None) -> None:
        for file, row in rows(record, self._persona, self._prompts):
            self._shards[file].write(row)
            if "prompt" in row and file in (File.TRAIN, File.DEV):
                self._formed[row["prompt"]] += 1
        self.segment.used.append(record.karma)
        self._used[counted] += 1
        if found:
            self._counts["redacted"].update(found)
            self._counts["records"]["redacted"] += 1

    def use_written(
        self, ids: list[str], lines: dict[bytes, list[bytes]], forms: list[str], counted: list[Counted]
    ) -> None:
        """The same for records whose rows are ready, see `written_row`: `lines` by side, and the form of each one's prompt."""
        for side, some in lines.items():
            self._shards[FILES[SIDES[side]]].append(some)
        self._formed.update(forms)
        self.segment.used += ids
        self._used.update(counted)

    def mention(self, karma: str) -> None:
        """A record whose answer stands in a pair, though it is not used itself."""
        self.segment.used.append(karma)

    def exclude(self, karma: str, reason: str) -> None:
        self.segment.excluded.setdefault(reason, []).append(karma)

    def finish(self) -> Segment:
        for file, shard in self._shards.items():
            if written := shard.close():
                self.segment.files[file] = written
        self._sum_up()
        self.segment.statistics = {name: dict(counts) for name, counts in self._counts.items()}
        for part, place in places(self._artifacts, self.segment.key).items():
            if (self._scratch / part).is_dir():
                publish(self._scratch / part, place)
        self.discard()
        return self.segment

    def _sum_up(self) -> None:
        del self._formed[""]  # of the holdout
        if self._formed:
            self._counts["prompts"] = self._formed
        for (side_name, length, source, kind), times in self._used.items():
            side, tokens = SIDES[side_name], int(length)
            self._counts["tokens"][side] += tokens * times
            self._counts[f"lengths_{side}"][str(length_class(tokens))] += times
            if side is not Split.HOLDOUT:
                self._counts["sources"][text(source)] += times
                self._counts["kinds"][text(kind)] += times

    def discard(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)


def sweep(artifacts: Artifacts) -> None:
    """Remove what a harvest that was killed left unfinished."""
    for path in artifacts.scratch().glob(f"{SCRATCH}*"):
        shutil.rmtree(path, ignore_errors=True)


def _part(file: File) -> str:
    return "holdout" if file is File.HOLDOUT else "open"


def places(artifacts: Artifacts, key: str) -> dict[str, Path]:
    """Where the two parts of a segment lie: the sealed one is apart, where no trainer looks."""
    return {"open": artifacts.segment(key), "holdout": artifacts.holdout_segment(key)}


def shard(artifacts: Artifacts, key: str, file: File) -> Path:
    return places(artifacts, key)[_part(file)] / file / SHARD


def length_class(tokens: int) -> int:
    """The power of two, or one and a half times one, that a length in tokens does not exceed."""
    power = 1 << max(tokens - 1, 0).bit_length()
    middle = power * 3 // 4
    return middle if tokens <= middle else power
