"""The candidate against the champion: it takes that one's place by itself only where it is non-inferior to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from services.verifier.evidence import suite_loss, target_loss
from services.verifier.results import Results
from shared.contracts.verify import (
    Arm,
    Champion,
    ChampionEvidence,
    Look,
    Loss,
    Policy,
    Rank,
    SuiteEvidence,
    TargetEvidence,
)

TARGET = "target"


def rank(
    results: Results,
    policy: Policy,
    look: Look,
    champion: Champion | None,
    target: TargetEvidence,
    suites: Mapping[str, SuiteEvidence],
) -> ChampionEvidence:
    """Compare with the champion: non-inferior on the target and on every blocking suite, or not."""
    if champion is None:
        return ChampionEvidence(rank=Rank.FIRST, reason="There is no champion.")
    if not champion.serves:
        reason = f"{champion.version} does not serve ({champion.obstacle}): it is replaced without a comparison."
        return ChampionEvidence(rank=Rank.FIRST, reason=reason, champion=champion)
    if champion.adapter == results.arms[Arm.CANDIDATE]:
        return ChampionEvidence(rank=Rank.SAME, reason=f"It is the adapter of {champion.version}.", champion=champion)
    if champion.obstacle:
        reason = f"It could not be compared with {champion.version}: {champion.obstacle}."
        return ChampionEvidence(rank=Rank.NOT_COMPARED, reason=reason, champion=champion)
    if results.arms.get(Arm.CHAMPION) != champion.adapter:
        raise ValueError(f"champion {champion.version} was not asked")
    losses = {
        TARGET: target_loss(results, policy, look, by_rule=target.metric == "rule"),
        **{name: suite_loss(name, results, suite.kinds, policy) for name, suite in suites.items()},
    }
    found, reason = _ranked(champion.version, losses)
    return ChampionEvidence(rank=found, reason=reason, champion=champion, losses=losses)


def _ranked(version: str, losses: Mapping[str, Loss]) -> tuple[Rank, str]:
    inferior = [name for name, loss in losses.items() if loss.low is not None and loss.low > 0]
    unproven = [name for name, loss in losses.items() if loss.high is None or loss.high >= loss.margin]
    if not unproven:
        return Rank.NON_INFERIOR, f"It is non-inferior to {version}: {_figures(losses, losses)}."
    if worse := [name for name in inferior if name in unproven]:
        return Rank.INFERIOR, f"It is inferior to {version}: {_figures(losses, worse)}."
    return Rank.UNPROVEN, f"It is not shown to be non-inferior to {version}: {_figures(losses, unproven)}."


def _figures(losses: Mapping[str, Loss], names: Iterable[str]) -> str:
    """`target loses +0.010 (at most +0.060, margin 0.10), base-logic …`."""
    bounds = {
        name: "without a bound" if (high := losses[name].high) is None else f"at most {high:+.3f}" for name in names
    }
    return ", ".join(
        f"{name} loses {losses[name].mean:+.3f} ({bound}, margin {losses[name].margin:.2f})"
        for name, bound in bounds.items()
    )
