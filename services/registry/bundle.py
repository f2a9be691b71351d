"""The bundle of a promoted adapter: its PEFT directory, and a sidecar with the digests of everything it was made from.

Immutable and content-addressed: it is written once, atomically, and never changed.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from uuid import uuid4

from shared.contracts.forge import ADAPTER_FILES, LARGEST_ADAPTER
from shared.contracts.frozen import Frozen
from shared.contracts.verify import Probe, Verdict
from shared.storage.artifacts import Artifacts, publish, sync
from shared.storage.digests import digest_tree
from shared.storage.untrusted import OutputError, chunks

ADAPTER = "adapter"
SIDECAR = "soulforge.json"
PROBES = "probes.json"
READ_ONLY = 0o444


class BundleError(Exception):
    """The bundle cannot be trusted; the message names the mismatch."""


class Sidecar(Frozen):
    """The provenance of an adapter. All digests are `sha256:<hex>`."""

    persona: str
    version: str
    adapter: str
    base: str
    base_name: str
    manifest: str
    holdout: str
    recipe: str
    ritual: str
    verdict: Verdict


def freeze(artifacts: Artifacts, source: Path, sidecar: Sidecar, probes: tuple[Probe, ...]) -> Path:
    """Copy the adapter, which a job wrote, into the Crypt with its sidecar.

    Raises BundleError when it is not the verified one.
    """
    target = artifacts.bundle(sidecar.adapter)
    if target.is_dir():
        # It may have been published by a process that was killed before the move was on the disk.
        sync(target.parent)
    else:
        scratch = artifacts.scratch() / uuid4().hex
        try:
            _copy(source, scratch / ADAPTER)
            check(scratch, sidecar.adapter)
            (scratch / SIDECAR).write_text(sidecar.model_dump_json(indent=2) + "\n", encoding="utf-8")
            (scratch / PROBES).write_text(
                json.dumps([probe.model_dump() for probe in probes], ensure_ascii=False, indent=2) + "\n"
            )
            for file in scratch.rglob("*"):
                if file.is_file():
                    file.chmod(READ_ONLY)
            publish(scratch, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    check(target, sidecar.adapter)
    return target


def _copy(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    try:
        for name in sorted(ADAPTER_FILES):
            with (target / name).open("wb") as file:
                file.writelines(chunks(source.parent, f"{source.name}/{name}", LARGEST_ADAPTER))
    except OutputError as error:
        raise BundleError(f"the verified adapter is gone: {error}") from error


def check(bundle: Path, adapter: str) -> None:
    """Raise BundleError unless the bundle holds the adapter of that digest."""
    found = digest_tree(bundle / ADAPTER) if (bundle / ADAPTER).is_dir() else "nothing"
    if found != adapter:
        raise BundleError(f"bundle {bundle.name} holds {found}, not {adapter}: restore the Crypt from a backup")


def probes_of(bundle: Path) -> tuple[Probe, ...]:
    return tuple(Probe.model_validate(probe) for probe in json.loads((bundle / PROBES).read_text(encoding="utf-8")))


def version_name(persona: str, adapter: str) -> str:
    """`persona@<first 12 digits of the digest>`: never used for other weights."""
    return f"{persona}@{adapter.removeprefix('sha256:')[:12]}"
