"""Write a manifest and its sealed holdout as JSONL files, streamed in order of time.

The manifest directory (train, dev, pairs, dev_pairs, labels) and the holdout directory are separate places: the trainer is never
given the latter. Both depend on the karma and the policy alone: the same records give the same bytes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from orjson import Fragment

from services.harvester.manifest.store import UsedRow
from services.harvester.policy import Prompts
from services.harvester.rows import NO_CHECKS, File, Used, rows
from shared.storage.artifacts import write_atomically
from shared.storage.digests import PREFIX, digest_file, digest_files
from shared.storage.shards import shard_name

MANIFEST = "manifest.json"
MOST_PROMPTS = 200  # different system prompts whose rows are counted, the first ones


@dataclass(frozen=True)
class Written:
    """One finished file."""

    digest: str
    rows: int
    bytes: int


class _RowFile:
    """A JSONL file that is hashed and counted while it is written; created with its first row."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._rows = self._bytes = 0

    def write(self, row: dict[str, Any]) -> None:
        if self._file is None:
            self._path.parent.mkdir(parents=True)
            self._file = self._path.open("wb")
        line = orjson.dumps(row, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
        self._file.write(line)
        self._hash.update(line)
        self._rows += 1
        self._bytes += len(line)

    def finish(self) -> Written | None:
        """Close the file; None where it has no row. What publishes its folder brings it to the disk."""
        if self._file is None:
            return None
        self._file.close()
        return Written(PREFIX + self._hash.hexdigest(), self._rows, self._bytes)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class ManifestWriter:
    """Writes records into two folders, `manifest` and `holdout`. Use as a context manager."""

    def __init__(self, folder: Path, persona: str, prompts: Prompts) -> None:
        self.open_folder, self.sealed_folder = folder / "manifest", folder / "holdout"
        self._persona, self._prompts = persona, prompts
        self._files = {file: _RowFile(self._folder_of(file) / file / shard_name(0)) for file in File}
        self._written: dict[File, Written] = {}
        self.prompt_forms: Counter[str] = Counter()  #: rows by the system prompt that they are trained with
        self.system_prompts: dict[str, Counter[str]] = {}  #: rows to train on by their own system prompt, and by form
        self.stated: Counter[str] = Counter()  #: rows that have a `why`, and that have evidence
        self.consecrated_by: Counter[str] = Counter()  #: rows by who vouches for them
        self.signals: Counter[str] = Counter()  #: of training rows: with a why, with a thumb up, with a thumb down
        self.open_folder.mkdir(parents=True)
        self.sealed_folder.mkdir()

    def __enter__(self) -> ManifestWriter:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def write(self, records: list[UsedRow]) -> None:
        for record in records:
            for file, row in rows(_used(record), self._persona, self._prompts):
                self._files[file].write(row)
                if file in (File.TRAIN, File.DEV):
                    self._count(row)
                if signal := _signal(file, row):
                    self.signals[signal] += 1
                if file is File.TRAIN:
                    self._count_prompt(row)

    def _count(self, row: dict[str, Any]) -> None:
        if form := row.get("prompt"):
            self.prompt_forms[form] += 1
        self.stated.update(part for part in ("why", "evidence") if row[part])
        self.consecrated_by[row["consecrated_by"]] += 1

    def _count_prompt(self, row: dict[str, Any]) -> None:
        first = row["messages"][0]
        text = str(first.get("content") or "") if first["role"] == "system" else ""
        if text and (text in self.system_prompts or len(self.system_prompts) < MOST_PROMPTS):
            self.system_prompts.setdefault(text, Counter())[row["prompt"]] += 1

    def finish(self) -> Counter[str]:
        """Close all files; how many rows each kind has."""
        finished = {name: file.finish() for name, file in self._files.items()}
        self._written = {name: written for name, written in finished.items() if written}
        return Counter({name: written.rows for name, written in self._written.items()})

    def seal(self, facts: dict[str, Any]) -> str:
        """Describe the holdout in its manifest.json; the digest of its directory."""
        return _describe(self.sealed_folder, {File.HOLDOUT} & self._written.keys(), self._written, facts)

    def describe(self, facts: dict[str, Any]) -> str:
        """Describe the manifest in its manifest.json; the digest of its directory."""
        return _describe(self.open_folder, self._written.keys() - {File.HOLDOUT}, self._written, facts)

    def _folder_of(self, file: File) -> Path:
        return self.sealed_folder if file is File.HOLDOUT else self.open_folder


def _signal(file: File, row: dict[str, Any]) -> str | None:
    """What a row brings to a loss other than SFT, besides the pairs."""
    match file:
        case File.TRAIN:
            return "why" if row["why"].strip() else None
        case File.LABELS:
            return "up" if row["label"] else "down"
    return None


def _used(record: UsedRow) -> Used:
    return Used(
        record.karma,
        record.session,
        record.side,
        record.feedback,
        _weighted(orjson.loads(record.messages), record.answers or ()),
        Fragment(record.tools) if record.tools != "[]" else None,
        Fragment(record.checks) if record.checks else NO_CHECKS,
        orjson.loads(record.rejected) if record.rejected else None,
        record.contradicted,
        record.why,
        record.evidence,
        record.consecrated_by,
    )


def _weighted(messages: list[dict[str, Any]], answers: Iterable[int]) -> list[dict[str, Any]]:
    """The messages with these of them marked as trained."""
    for at in answers:
        messages[at] = messages[at] | {"weight": 1}
    return messages


def _describe(folder: Path, files: Iterable[File], written: dict[File, Written], facts: dict[str, Any]) -> str:
    named = {f"{file}/{shard_name(0)}": written[file] for file in sorted(files)}
    values = facts | {"files": {name: asdict(one) for name, one in named.items()}}
    text = orjson.dumps(values, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    write_atomically(folder / MANIFEST, text.decode())
    digests = {name: one.digest for name, one in named.items()}
    return digest_files({**digests, MANIFEST: digest_file(folder / MANIFEST)})
