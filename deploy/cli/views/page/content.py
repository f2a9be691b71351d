"""What the report of a ritual shows, from all that is recorded of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from deploy.cli.queries.curve import Curve
from deploy.cli.views.verdict import notes_of
from shared.contracts.forge import AdapterForged, TrainingFigures

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deploy.cli.queries.rituals import Snapshot
    from deploy.cli.views.manifest import ManifestFile
    from deploy.cli.views.report import RitualReport
    from services.verifier.answers import Answers
    from shared.contracts.verify import Loss, Score, TargetEvidence, Verdict

POINTS = 100.0  #: of a share
TARGET = "target"  #: the holdout's name beside those of suites


@dataclass(frozen=True)
class Suite:
    """One side of the evidence: the candidate's gain over the base with its bounds, and the `bound` that it must be above.

    All in `unit`. `low` and `high` are None where the gain has no bounds. `scores` are those of base and candidate.
    """

    name: str
    unit: str
    gain: float
    low: float | None
    high: float | None
    bound: float
    state: str
    asked: str
    scores: tuple[str, str]
    good: bool


@dataclass(frozen=True)
class Page:
    """All that a page and a card are made of. `general` are answers to general prompts, `sealed` to the sealed holdout."""

    report: RitualReport
    suites: tuple[Suite, ...]
    curve: Curve
    notes: tuple[str, ...] = ()
    manifest: ManifestFile | None = None
    training: TrainingFigures | None = None
    recipe: str = ""
    isolation: tuple[str, ...] = ()
    general: tuple[Answers, ...] = ()
    sealed: tuple[Answers, ...] = ()

    @property
    def title(self) -> str:
        return self.report.version or f"{self.report.persona}, ritual {str(self.report.ritual)[:8]}"

    @property
    def decision(self) -> str:
        """The verdict in one word, or that there is none."""
        return self.report.decision or "no verdict"


def build_page(
    snapshot: Snapshot,
    report: RitualReport,
    curve: Curve,
    manifest: ManifestFile | None,
    general: Sequence[Answers] = (),
    sealed: Sequence[Answers] = (),
) -> Page:
    """The page of a ritual, which may be under way, or have ended at any stage."""
    forged = [recorded.fact for recorded in snapshot.facts if isinstance(recorded.fact, AdapterForged)]
    training = forged[-1].training if forged else None
    return Page(
        report=report,
        suites=tuple(list_suites(report.scores)) if report.scores else (),
        notes=tuple(notes_of(report.scores)[1:]) if report.scores else (),  # the first explains the terminal's table
        curve=curve if curve.losses or not training else recorded_curve(training),
        manifest=manifest,
        training=training,
        recipe=forged[-1].recipe if forged else "",
        isolation=forged[-1].isolation if forged else (),
        general=tuple(general),
        sealed=tuple(sealed),
    )


def recorded_curve(training: TrainingFigures) -> Curve:
    """The curve at the checkpoints alone, which the ledger keeps when the run is pruned."""
    saved = training.checkpoints
    dev_losses = {0: training.dev_loss_before, **{one.step: one.dev_loss for one in saved}}
    return Curve(
        {one.step: one.loss for one in saved if one.loss is not None},
        {step: loss for step, loss in dev_losses.items() if loss is not None},
        tuple(one.step for one in saved),
    )


def list_suites(verdict: Verdict) -> Iterator[Suite]:
    """The sides of the evidence, the target first, the context and the candidate against the champion where there are such."""
    yield _target(verdict.target, verdict)
    for name, suite in verdict.suites.items():
        yield Suite(
            name=name,
            unit="points",
            gain=0 - suite.drop * POINTS,  # no negative zero
            low=-suite.drop_high * POINTS,
            high=-suite.drop_low * POINTS,
            bound=-suite.policy.margin * POINTS,
            state=suite.state if suite.policy.blocking else f"{suite.state} (shown, decides nothing)",
            asked=f"{suite.items} items",
            scores=(_share(suite.base), _share(suite.candidate)),
            good=suite.state == "intact",
        )
    if context := verdict.context:
        shown = "" if verdict.policy.context.blocking else " (shown, decides nothing)"
        found = _compared("context, base with prompt", context.loss, POINTS, "points")
        yield replace(
            found,
            state=f"{context.state}{shown}",
            asked=f"{context.items} sealed items of {context.sessions} sessions",
            scores=(_share(context.base_prompted), _share(context.candidate)),
            good=context.state == "intact",
        )
    for name, loss in verdict.champion.losses.items():
        scale, unit = _unit(verdict.target) if name == TARGET else (POINTS, "points")
        champion = verdict.champion.champion
        found = _compared(f"{name}, against the champion", loss, scale, unit)
        yield replace(found, asked=champion.version if champion else "")


def _compared(name: str, loss: Loss, scale: float, unit: str) -> Suite:
    """A loss as a gain: what is not lost within the margin is non-inferior."""
    fine = loss.high is not None and loss.high < loss.margin
    return Suite(
        name=name,
        unit=unit,
        gain=0 - loss.mean * scale,
        low=None if loss.high is None else -loss.high * scale,
        high=None if loss.low is None else -loss.low * scale,
        bound=-loss.margin * scale,
        state="non-inferior" if fine else "not shown",
        asked="",
        scores=("", ""),
        good=fine,
    )


def _unit(target: TargetEvidence) -> tuple[float, str]:
    """What the target is measured in, and how many of it the evidence's 1 is."""
    return (POINTS, "points") if target.metric == "rule" else (1.0, "nats a token")


def _target(target: TargetEvidence, verdict: Verdict) -> Suite:
    by_rule, policy = target.metric == "rule", verdict.policy
    scale, unit = _unit(target)
    likelihoods = f"{target.nll_base:.3f}", f"{target.nll_candidate:.3f}"
    return Suite(
        name="target, by rules" if by_rule else "target, by likelihood",
        unit=unit,
        gain=target.gain.mean * scale,
        low=None if target.gain.low is None else target.gain.low * scale,
        high=None if target.gain.high is None else target.gain.high * scale,
        bound=(policy.min_gain if by_rule else policy.min_nll_gain) * scale,
        state=verdict.target_state,
        asked=f"{target.items} sealed items of {target.sessions} sessions",
        scores=(_share(target.base), _share(target.candidate)) if by_rule else likelihoods,
        good=verdict.target_state == "learned",
    )


def _share(score: Score | None) -> str:
    return "" if score is None else f"{score.share * POINTS:.1f} %"
