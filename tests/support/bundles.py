"""Bundles with the evidence of their verdict, made up."""

from __future__ import annotations

import json
from pathlib import Path

from services.registry.bundle import Sidecar, freeze
from services.verifier.job import HOLDOUT
from services.verifier.results import HeldOut
from services.verifier.sealed import Record, SealedEvidence, seal
from shared.contracts.probe import Probe
from shared.contracts.verify import EVIDENCE_FILE, Arm, Champion, Look, Policy
from shared.storage.artifacts import Artifacts
from shared.storage.digests import digest_text, digest_tree
from tests.support.evaluations import INTACT, LEARNED, results

POLICY = Policy(resamples=400)
SALT = "salt"
NAMES = {"persona": "scribe", "base_name": "base", "manifest": "sha256:m", "recipe": "default", "ritual": "ritual"}
DIGESTS = {"base": "sha256:b", "holdout": "sha256:h"}


def records() -> dict[str, Record]:
    """The sealed records that LEARNED is about."""
    return {row.id: Record(session=row.session, line=_line(row)) for row in LEARNED}


def write_holdout(folder: Path) -> None:
    """A sealed holdout that has them."""
    split = folder / HOLDOUT
    split.mkdir(parents=True, exist_ok=True)
    (split / "00000.jsonl").write_text("".join(record.line for record in records().values()))


def _line(row: HeldOut) -> str:
    asked = {"role": "user", "content": "hi"}
    return json.dumps({"id": row.id, "session": row.session, "messages": [asked]}) + "\n"


def evidence_of(adapter: str, champion: Champion | None = None) -> SealedEvidence:
    """The evidence of an adapter that passed."""
    measured = results(INTACT, LEARNED).model_copy(update={"arms": {Arm.BASE: None, Arm.CANDIDATE: adapter}})
    sealed, _ = seal(measured, records(), SALT)
    return SealedEvidence(salt=SALT, policy=POLICY, look=Look(), champion=champion, warnings=(), results=sealed)


def write_evidence(folder: Path, adapter: str, champion: Champion | None = None) -> tuple[Path, SealedEvidence]:
    path, evidence = folder / EVIDENCE_FILE, evidence_of(adapter, champion)
    path.write_text(evidence.model_dump_json())
    return path, evidence


def sidecar(adapter: str, path: Path, evidence: SealedEvidence) -> Sidecar:
    version = f"scribe@{adapter.removeprefix('sha256:')[:12]}"
    return Sidecar(
        adapter=adapter,
        version=version,
        evidence=digest_text(path.read_text()),
        verdict=evidence.verdict(),
        **NAMES,
        **DIGESTS,
    )


def frozen(
    artifacts: Artifacts,
    source: Path,
    probes: tuple[Probe, ...] = (),
    adapter: str | None = None,
    champion: Champion | None = None,
) -> Path:
    """Freeze an adapter as one that passed; `adapter` is the digest that was verified, where that is not the source's."""
    adapter = adapter or digest_tree(source)
    path, evidence = write_evidence(source.parent, adapter, champion)
    return freeze(artifacts, source, path, sidecar(adapter, path, evidence), probes)
