"""`soulforge verify`: recompute the verdict of a bundle from the bundle alone, on any machine and without a stack."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.connect import load_settings
from deploy.cli.console import out, print_json
from deploy.cli.errors import UserError

if TYPE_CHECKING:
    from services.registry.bundle import Sidecar
    from services.verifier.sealed import SealedEvidence
    from shared.contracts.verify import Verdict


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Adapters")(verify)


def verify(
    bundle: Annotated[Path, typer.Argument(help="The folder of the bundle, or a copy of it.")],
    texts: Annotated[
        bool, typer.Option("--texts", help="Also check that the sealed holdout in the Lab has these items.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the recomputed verdict as JSON.")] = False,
) -> None:
    """Recompute a bundle's verdict from its evidence.

    Checks that the bundle holds the adapter and the evidence of its verdict, and that the same verdict follows from it: the
    decision, each reason and each figure. Exit code 1 where not.
    """
    from deploy.cli.views.verdict import verdict_view

    sidecar, evidence = _read(bundle)
    verdict = _recomputed(sidecar, evidence)
    if texts:
        _check_texts(sidecar, evidence)
    if as_json:
        print_json(verdict.model_dump(mode="json"))
        return
    out.print(verdict_view(verdict))
    results = evidence.results
    items = f"{len(results.items)} answers to suites, {len(results.holdout)} sealed items"
    checked = "; these are the items of the sealed holdout in the Lab" if texts else ""
    out.print(
        f"\n{sidecar.version}: the same verdict follows from its evidence ({items}), in every figure{checked}.",
        soft_wrap=True,
    )


def _read(bundle: Path) -> tuple[Sidecar, SealedEvidence]:
    from services.registry.bundle import check, check_evidence, read_sidecar
    from services.verifier.sealed import SealedEvidence
    from shared.contracts.verify import EVIDENCE_FILE, LARGEST_EVIDENCE
    from shared.storage.untrusted import read_model

    if not bundle.is_dir():
        raise UserError(f"{bundle} is no folder: `soulforge adapters` lists the bundles")
    sidecar = read_sidecar(bundle)
    check(bundle, sidecar.adapter)
    check_evidence(bundle, sidecar.evidence)
    return sidecar, read_model(bundle, EVIDENCE_FILE, SealedEvidence, LARGEST_EVIDENCE)


def _recomputed(sidecar: Sidecar, evidence: SealedEvidence) -> Verdict:
    from shared.contracts.verify import Arm

    results = evidence.results
    if (results.arms.get(Arm.CANDIDATE), results.base_digest, results.holdout_digest) != (
        sidecar.adapter,
        sidecar.base,
        sidecar.holdout,
    ):
        raise UserError(f"the evidence is about another adapter, base or holdout than {sidecar.version}")
    try:
        verdict = evidence.verdict()
    except ValueError as error:
        raise UserError(f"no verdict follows from the evidence: {error}") from error
    if different := [name for name, value in verdict if value != getattr(sidecar.verdict, name)]:
        raise UserError(f"another verdict follows from the evidence: {', '.join(different)} differ from soulforge.json")
    return verdict


def _check_texts(sidecar: Sidecar, evidence: SealedEvidence) -> None:
    from services.verifier.sealed import check_texts, read_records
    from shared.storage.artifacts import Artifacts
    from shared.storage.digests import digest_tree

    holdout = Artifacts(load_settings().home).holdout(sidecar.holdout)
    if not holdout.is_dir():
        raise UserError(
            f"the sealed holdout {sidecar.holdout} is not in this Lab: it was pruned, or is of another machine"
        )
    if digest_tree(holdout) != sidecar.holdout:
        raise UserError(f"the sealed holdout in {holdout} was changed after it was sealed")
    try:
        check_texts(evidence, read_records(holdout))
    except ValueError as error:
        raise UserError(f"the evidence is not about the sealed holdout: {error}") from error
