"""The bundle of a promoted adapter: its PEFT directory, and a sidecar with the digests of everything it was made from.

Immutable and content-addressed: it is written once, atomically, and never changed. Disks do change it, and so may people:
it is read as hostile, and checked whenever it is used.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated
from uuid import uuid4

from pydantic import BaseModel, FailFast, RootModel

from shared.contracts.forge import ADAPTER_FILES, LARGEST_ADAPTER
from shared.contracts.frozen import Frozen
from shared.contracts.harvest import SystemPrompt
from shared.contracts.probe import Probe
from shared.contracts.verify import EVIDENCE_FILE, LARGEST_EVIDENCE, LARGEST_RESULTS, Verdict
from shared.storage.artifacts import BUNDLED_ADAPTER, Artifacts, publish, sync
from shared.storage.digests import digest_files
from shared.storage.untrusted import MIB, OutputError, chunks, digest_file, list_names, read_bytes, read_model

ADAPTER = BUNDLED_ADAPTER
SIDECAR = "soulforge.json"
PROBES = "probes.json"
MANIFEST = "manifest.json"  # as the harvester writes it
LARGEST_MANIFEST = 16 * MIB  # with some system prompts in full
SCRATCH = "bundle-"  # begins the name of a folder that is not finished
READ_ONLY = 0o400
REMEDY = "restore the Crypt from a backup, or train again"


class BundleError(Exception):
    """The bundle cannot be used; the message names the fault, and what to do."""


class Probes(RootModel[Annotated[tuple[Probe, ...], FailFast()]]):
    """The file of prompts that prove which adapter answers."""


class Sidecar(Frozen):
    """The provenance of an adapter. All digests are `sha256:<hex>`.

    `replaces` are the system prompts that it was trained to do without: rows that had them were trained under a shorter one
    or none. None: unknown, since the manifest could not be read.
    """

    persona: str
    version: str
    adapter: str
    base: str
    base_name: str
    manifest: str
    holdout: str
    recipe: str
    ritual: str
    evidence: str
    verdict: Verdict
    replaces: tuple[SystemPrompt, ...] | None = None


class _Statistics(BaseModel):
    system_prompts: tuple[SystemPrompt, ...]


class _Manifest(BaseModel):
    """The part of a manifest's file that goes into the sidecar."""

    statistics: _Statistics


def read_replaced(manifest: Path) -> tuple[SystemPrompt, ...]:
    """The system prompts that an adapter of this manifest was trained to do without. Raises OutputError, OSError."""
    prompts = read_model(manifest, MANIFEST, _Manifest, LARGEST_MANIFEST).statistics.system_prompts
    return tuple(prompt for prompt in prompts if prompt.rows.keys() - {"full"})


def freeze(artifacts: Artifacts, source: Path, evidence: Path, sidecar: Sidecar, probes: tuple[Probe, ...]) -> Path:
    """Copy the adapter, which a job wrote, into the Crypt with its evidence and sidecar; a damaged bundle of it is replaced.

    Raises BundleError when one of them is not what was verified.
    """
    target = artifacts.bundle(sidecar.adapter)
    try:
        check(target, sidecar.adapter)
        # It may have been published by a process that was killed before the move was on the disk.
        sync(target.parent)
    except BundleError:
        _write(artifacts, source, evidence, sidecar, probes)
        check(target, sidecar.adapter)
    return target


def _write(artifacts: Artifacts, source: Path, evidence: Path, sidecar: Sidecar, probes: tuple[Probe, ...]) -> None:
    target = artifacts.bundle(sidecar.adapter)
    scratch, damaged = (artifacts.scratch() / f"{SCRATCH}{uuid4().hex}" for _ in range(2))
    try:
        _copy(source, scratch / ADAPTER)
        _copy_evidence(evidence, scratch / EVIDENCE_FILE)
        (scratch / SIDECAR).write_text(sidecar.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (scratch / PROBES).write_text(
            json.dumps([probe.model_dump() for probe in probes], ensure_ascii=False, indent=2) + "\n"
        )
        check(scratch, sidecar.adapter)
        check_evidence(scratch, sidecar.evidence)
        for file in scratch.rglob("*"):
            if file.is_file():
                file.chmod(READ_ONLY)
        if target.is_dir():
            target.rename(damaged)
        publish(scratch, target)
    finally:
        for folder in (scratch, damaged):
            shutil.rmtree(folder, ignore_errors=True)


def sweep(artifacts: Artifacts) -> None:
    """Remove what a registry that was killed left unfinished."""
    for path in artifacts.scratch().glob(f"{SCRATCH}*"):
        shutil.rmtree(path, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    try:
        for name in sorted(ADAPTER_FILES):
            with (target / name).open("wb") as file:
                file.writelines(chunks(source.parent, f"{source.name}/{name}", LARGEST_ADAPTER))
    except OutputError as error:
        raise BundleError(f"the verified adapter is gone: {error}") from error


def _copy_evidence(source: Path, target: Path) -> None:
    try:
        target.write_bytes(read_bytes(source.parent, source.name, LARGEST_EVIDENCE))
    except OutputError as error:
        raise BundleError(f"the evidence of the verdict is gone: {error}") from error


def check_evidence(bundle: Path, digest: str) -> None:
    """Raise BundleError unless the bundle holds the evidence of that digest."""
    try:
        found = digest_file(bundle, EVIDENCE_FILE, LARGEST_EVIDENCE)
    except OutputError as error:
        raise BundleError(f"bundle {bundle} is damaged: {error}; {REMEDY}") from error
    if found != digest:
        raise BundleError(f"bundle {bundle} does not hold the evidence of its verdict; {REMEDY}")


def read_sidecar(bundle: Path) -> Sidecar:
    """The sidecar of a bundle. Raises OutputError."""
    return read_model(bundle, SIDECAR, Sidecar, LARGEST_RESULTS)


def check(bundle: Path, adapter: str) -> None:
    """Raise BundleError unless the bundle holds the adapter of that digest, nothing beside it, and its probes."""
    try:
        names = list_names(bundle, ADAPTER, len(ADAPTER_FILES) + 1) | ADAPTER_FILES
        found = digest_files({name: digest_file(bundle, f"{ADAPTER}/{name}", LARGEST_ADAPTER) for name in names})
        read_probes(bundle)
    except OutputError as error:
        raise BundleError(f"bundle {bundle} is damaged: {error}; {REMEDY}") from error
    if found != adapter:
        raise BundleError(f"bundle {bundle} does not hold the adapter that was verified; {REMEDY}")


def read_probes(bundle: Path) -> tuple[Probe, ...]:
    """The probes of a bundle. Raises OutputError."""
    return read_model(bundle, PROBES, Probes, LARGEST_RESULTS).root


def version_name(persona: str, adapter: str) -> str:
    """`persona@<first 12 digits of the digest>`: never used for other weights."""
    return f"{persona}@{adapter.removeprefix('sha256:')[:12]}"
