"""`soulforge verify`: the verdict follows from the bundle alone, and from nothing that was changed in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.cli.main import run
from services.registry.bundle import SIDECAR
from shared.contracts.verify import EVIDENCE_FILE
from shared.storage.artifacts import Artifacts
from shared.storage.digests import digest_text, digest_tree
from tests.support.adapters import save_adapter
from tests.support.bundles import evidence_of, frozen, write_holdout


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a bundle, on a machine that has nothing else."""
    source = save_adapter(tmp_path / "adapter", value=0.1)
    monkeypatch.setenv("SOULFORGE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return frozen(Artifacts(tmp_path / "elsewhere"), source)


def change(file: Path, **values: Any) -> None:
    file.chmod(0o600)
    found = json.loads(file.read_text())
    file.write_text(json.dumps({**found, **values}))


def told(*words: object) -> int:
    return run(["verify", *map(str, words)])


def test_the_same_verdict_follows_from_the_bundle(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(bundle) == 0
    shown = capsys.readouterr().out
    assert "promote" in shown and "the same verdict follows from its evidence" in shown


def test_the_verdict_is_printed_as_it_is_in_the_bundle(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(bundle, "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((bundle / SIDECAR).read_text())["verdict"]


def test_evidence_that_was_changed_is_refused(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(bundle / EVIDENCE_FILE, salt="other")
    assert told(bundle) == 1
    assert "does not hold the evidence of its verdict" in capsys.readouterr().err


def test_a_verdict_that_was_changed_is_refused_by_name(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verdict = json.loads((bundle / SIDECAR).read_text())["verdict"]
    verdict["target"]["p_value"] /= 10
    change(bundle / SIDECAR, verdict=verdict)
    assert told(bundle) == 1
    assert "another verdict follows from the evidence: target differ from soulforge.json" in capsys.readouterr().err


def test_scores_that_were_changed_with_their_digest_give_another_verdict(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evidence = json.loads((bundle / EVIDENCE_FILE).read_text())
    evidence["results"]["holdout"][1]["arms"]["candidate"]["passed"] ^= True
    change(bundle / EVIDENCE_FILE, **evidence)
    change(bundle / SIDECAR, evidence=digest_text((bundle / EVIDENCE_FILE).read_text()))
    assert told(bundle) == 1
    assert "another verdict follows from the evidence" in capsys.readouterr().err


def test_the_evidence_of_another_adapter_is_refused(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = evidence_of("sha256:other")
    change(bundle / EVIDENCE_FILE, **json.loads(other.model_dump_json()))
    change(bundle / SIDECAR, evidence=digest_text((bundle / EVIDENCE_FILE).read_text()))
    assert told(bundle) == 1
    assert "the evidence is about another adapter, base or holdout" in capsys.readouterr().err


def test_another_adapter_in_the_bundle_is_refused(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = next((bundle / "adapter").glob("*.safetensors"))
    weights.chmod(0o600)
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert told(bundle) == 1
    assert "does not hold the adapter that was verified" in capsys.readouterr().err


def test_what_is_no_bundle_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(tmp_path / "none") == 1
    assert "is no folder" in capsys.readouterr().err
    assert told(tmp_path) == 1
    assert "soulforge.json is missing" in capsys.readouterr().err


def test_with_the_lab_at_hand_the_records_are_checked(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(bundle, "--texts") == 1
    assert "is not in this Lab" in capsys.readouterr().err

    holdout = tmp_path / "holdout"
    write_holdout(holdout)
    digest = digest_tree(holdout)
    home = Artifacts(tmp_path / "home").holdout(digest)
    home.parent.mkdir(parents=True)
    holdout.rename(home)
    change(bundle / SIDECAR, holdout=digest)
    evidence = json.loads((bundle / EVIDENCE_FILE).read_text())
    evidence["results"]["holdout_digest"] = digest
    change(bundle / EVIDENCE_FILE, **evidence)
    change(bundle / SIDECAR, evidence=digest_text((bundle / EVIDENCE_FILE).read_text()))

    assert told(bundle, "--texts") == 0
    assert "these are the items of the sealed holdout in the Lab" in capsys.readouterr().out

    (home / "holdout" / "00000.jsonl").write_text("")
    assert told(bundle, "--texts") == 1
    assert "was changed after it was sealed" in capsys.readouterr().err
