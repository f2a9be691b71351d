"""Compile a manifest: stream the persona's karma once, admit, split, and write content-addressed files.

The manifest directory (train, dev) and the holdout directory are separate places: the trainer is never given the latter.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from services.harvester import store
from services.harvester.admit import admit_one
from services.harvester.split import Split, assign, lineages
from shared.artifacts import Artifacts, publish
from shared.contracts.karma import KarmaRecord, Status
from shared.digests import digest_file, digest_tree

if TYPE_CHECKING:
    from shared.postgres import Connection

FORMAT = 1
FILES = {Split.TRAIN: "train.jsonl", Split.DEV: "dev.jsonl", Split.HOLDOUT: "holdout.jsonl"}


@dataclass
class Compiled:
    """What a harvest found and wrote. Digests are of whole directories."""

    manifest: str = ""
    holdout: str = ""
    seen: int = 0
    counts: Counter[Split] = field(default_factory=Counter)
    exclusions: list[tuple[str, str]] = field(default_factory=list)
    sealed: list[str] = field(default_factory=list)

    @property
    def train(self) -> int:
        return self.counts[Split.TRAIN]

    @property
    def dev(self) -> int:
        return self.counts[Split.DEV]

    @property
    def held_out(self) -> int:
        return self.counts[Split.HOLDOUT]

    @property
    def excluded(self) -> dict[str, int]:
        return dict(sorted(Counter(reason for _, reason in self.exclusions).items()))


async def compile_manifest(conn: Connection, artifacts: Artifacts, persona: str) -> Compiled:
    """Write the manifest and holdout of a persona as its karma stands now; needs an open REPEATABLE READ transaction."""
    scratch = artifacts.scratch() / uuid4().hex
    manifest, holdout = scratch / "manifest", scratch / "holdout"
    manifest.mkdir(parents=True)
    holdout.mkdir()
    try:
        compiled = await _write_splits(conn, persona, manifest, holdout)
        _write_manifest(manifest, persona, compiled, [FILES[Split.TRAIN], FILES[Split.DEV]])
        _write_manifest(holdout, persona, compiled, [FILES[Split.HOLDOUT]])
        compiled.manifest, compiled.holdout = digest_tree(manifest), digest_tree(holdout)
        publish(manifest, artifacts.manifest(compiled.manifest))
        publish(holdout, artifacts.holdout(compiled.holdout))
        return compiled
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


async def _write_splits(conn: Connection, persona: str, manifest: Path, holdout: Path) -> Compiled:
    links = await store.links(conn, persona)
    lineage = lineages((record, session, parent) for record, session, parent, _ in links)
    superseded = frozenset(parent for _, _, parent, status in links if parent and status == Status.WHITE_TRUTH)
    sealed = await store.sealed(conn, persona)
    sealed_lineages = {lineage[record] for record in sealed if record in lineage}
    compiled, seen_texts = Compiled(), set[bytes]()
    # A text that stands in the holdout is claimed first, so that its duplicate can never be trained on.
    async for record in store.records(conn, persona):
        if (
            _split(record, lineage, sealed_lineages) is Split.HOLDOUT
            and admit_one(record, superseded, seen_texts) is None
        ):
            compiled.sealed.append(record.id)
    held_out = set(compiled.sealed)
    with (
        (manifest / FILES[Split.TRAIN]).open("w", encoding="utf-8") as train,
        (manifest / FILES[Split.DEV]).open("w", encoding="utf-8") as dev,
        (holdout / FILES[Split.HOLDOUT]).open("w", encoding="utf-8") as held,
    ):
        files = {Split.TRAIN: train, Split.DEV: dev, Split.HOLDOUT: held}
        async for record in store.records(conn, persona):
            compiled.seen += 1
            reason = None if record.id in held_out else admit_one(record, superseded, seen_texts)
            if reason is not None:
                compiled.exclusions.append((record.id, reason))
                continue
            split = _split(record, lineage, sealed_lineages)
            compiled.counts[split] += 1
            files[split].write(row(record) + "\n")
    return compiled


def _split(record: KarmaRecord, lineage: dict[str, str], sealed_lineages: set[str]) -> Split:
    """The split of a record; a lineage that was ever sealed stays sealed, whatever joins it later."""
    name = lineage[record.id]
    return Split.HOLDOUT if name in sealed_lineages else assign(record.persona, name)


def row(record: KarmaRecord) -> str:
    """One line of a split file: the conversation with its system prompt, and the rules an answer must satisfy."""
    values: dict[str, Any] = {
        "id": record.id,
        "session": record.session,
        "messages": [m.model_dump(mode="json", exclude_defaults=True) | {"role": m.role} for m in record.messages],
        "checks": [check.model_dump(mode="json") for check in record.outcome.checks],
    }
    return json.dumps(values, ensure_ascii=False, sort_keys=True)


def _write_manifest(folder: Path, persona: str, compiled: Compiled, files: list[str]) -> None:
    values = {
        "format": FORMAT,
        "persona": persona,
        "files": {name: digest_file(folder / name) for name in files},
        "counts": {split: compiled.counts[split] for split in Split if FILES[split] in files},
        "seen": compiled.seen,
        "excluded": compiled.excluded,
    }
    (folder / "manifest.json").write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def refusal(compiled: Compiled, min_train: int, min_held_out: int) -> str | None:
    """What is missing for a training that can be judged; None when nothing is."""
    filtered = ", ".join(f"{count} {reason}" for reason, count in compiled.excluded.items()) or "none"
    if compiled.seen == 0:
        return "this persona has no karma: import or consecrate some first"
    if compiled.train < min_train:
        return f"{compiled.train} records to train on, {min_train} needed (seen {compiled.seen}; excluded: {filtered})"
    if compiled.held_out < min_held_out:
        return f"{compiled.held_out} records in the sealed holdout, {min_held_out} needed: karma from more sessions is missing"
    return None
