"""A bundle holds the two files of the verified adapter, whatever else is beside them or in their place."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from services.harvester.manifest.compile import SCRATCH as HARVEST
from services.harvester.manifest.compile import sweep as sweep_harvests
from services.registry import bundle as bundles
from services.registry.bundle import ADAPTER, MANIFEST, BundleError, check, freeze, read_replaced, sweep
from services.registry.views import get_replaced
from shared.contracts.forge import ADAPTER_FILES, ADAPTER_WEIGHTS
from shared.contracts.harvest import SystemPrompt
from shared.storage.artifacts import Artifacts
from shared.storage.digests import digest_text, digest_tree
from tests.support.adapters import save_adapter
from tests.support.bundles import frozen, sidecar, write_evidence

pytestmark = pytest.mark.timeout(20)


def test_only_the_files_of_an_adapter_are_frozen(tmp_path: Path) -> None:
    source = save_adapter(tmp_path / "adapter", value=0.1)
    digest = digest_tree(source)
    os.mkfifo(source / "pipe")
    (source / "secret").symlink_to("/etc/passwd")

    bundle = frozen(Artifacts(tmp_path / "home"), source, adapter=digest)

    assert {file.name for file in (bundle / ADAPTER).iterdir()} == ADAPTER_FILES
    assert digest_tree(bundle / ADAPTER) == digest


def test_the_sidecar_has_the_prompts_that_rows_were_trained_without_and_only_these(tmp_path: Path) -> None:
    texts = {"You are the scribe.": {"full": 2, "none": 8}, "Be brief.": {"short": 1}, "Always with me.": {"full": 5}}
    prompts = [SystemPrompt(digest=digest_text(text), text=text, rows=rows) for text, rows in texts.items()]
    manifest = {"format": 1, "statistics": {"system_prompts": [one.model_dump() for one in prompts], "tokens": {}}}
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))

    source = save_adapter(tmp_path / "adapter", value=0.1)
    path, evidence = write_evidence(tmp_path, digest_tree(source))
    made = sidecar(digest_tree(source), path, evidence).model_copy(update={"replaces": read_replaced(tmp_path)})
    bundle = freeze(Artifacts(tmp_path / "home"), source, path, made, ())

    assert get_replaced(str(bundle)) == tuple(prompts[:2])
    assert get_replaced(str(tmp_path / "none")) == ()


@pytest.mark.parametrize("other", [os.mkfifo, lambda file: file.symlink_to("/dev/zero"), lambda _: None])
def test_what_took_the_place_of_the_verified_weights_is_not_frozen(tmp_path: Path, other: object) -> None:
    source = save_adapter(tmp_path / "adapter", value=0.1)
    digest = digest_tree(source)
    (source / ADAPTER_WEIGHTS).unlink()
    assert callable(other)
    other(source / ADAPTER_WEIGHTS)

    artifacts = Artifacts(tmp_path / "home")
    with pytest.raises(BundleError, match=f"the verified adapter is gone: adapter/{ADAPTER_WEIGHTS} is"):
        frozen(artifacts, source, adapter=digest)
    assert not artifacts.bundle(digest).exists()
    assert not list(artifacts.scratch().iterdir())


def test_a_damaged_bundle_is_replaced_by_the_same_adapter_trained_again(tmp_path: Path) -> None:
    source = save_adapter(tmp_path / "adapter", value=0.1)
    artifacts, digest = Artifacts(tmp_path / "home"), digest_tree(source)
    bundle = frozen(artifacts, source, adapter=digest)
    (bundle / ADAPTER / ADAPTER_WEIGHTS).unlink()
    (bundle / ADAPTER / "more").touch()

    assert frozen(artifacts, source, adapter=digest) == bundle

    assert digest_tree(bundle / ADAPTER) == digest
    assert not list(artifacts.scratch().iterdir())


def test_a_copy_that_was_killed_is_removed_and_not_what_others_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save_adapter(tmp_path / "adapter", value=0.1)
    artifacts = Artifacts(tmp_path / "home")
    harvest = artifacts.scratch() / f"{HARVEST}1"
    harvest.mkdir()
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    monkeypatch.setattr(bundles, "publish", lambda *_: None)
    with pytest.raises(BundleError):
        frozen(artifacts, source)
    monkeypatch.undo()
    sweep_harvests(artifacts)
    assert len(list(artifacts.scratch().iterdir())) == 1, "the harvester leaves it"
    harvest.mkdir()

    sweep(artifacts)

    assert list(artifacts.scratch().iterdir()) == [harvest]


def test_a_file_beside_those_of_an_adapter_is_damage(tmp_path: Path) -> None:
    source = save_adapter(tmp_path / "adapter", value=0.1)
    digest = digest_tree(source)
    bundle = frozen(Artifacts(tmp_path / "home"), source, adapter=digest)
    (bundle / ADAPTER / "adapter_model.bin").touch()

    with pytest.raises(BundleError, match="does not hold the adapter that was verified"):
        check(bundle, digest)
