"""Facts in a few words for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.cli.format import duration, size
from shared.contracts.evacuate import GpuEvacuated, GpuInterrupted, GpuRefused, GpuRestored
from shared.contracts.forge import AdapterFailed, AdapterForged, MemoryFigures, PreferenceFigures, ReplayFigures
from shared.contracts.harvest import KarmaHarvested, KarmaRefused
from shared.contracts.intent import RitualCancelled
from shared.contracts.job import is_unisolated, isolation_text
from shared.contracts.message import Fact
from shared.contracts.registry import AdapterAwakened, AdapterKept, AdapterProposed, AdapterRegistered
from shared.contracts.verify import AdapterBanished, AdapterVerified, Judged

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.ritual.views import RecordedFact


def fact_text(fact: Fact) -> str:
    """One line about a fact; a job that ran unisolated is always mentioned."""
    ran = isolation_text(job_isolation(fact)) if is_unisolated(job_isolation(fact)) else ""
    return "; ".join(" ".join(part.split()) for part in (_text(fact), ran) if part)


def job_isolation(fact: Fact) -> tuple[str, ...]:
    """The isolation of the job that a fact is about; empty where it is about none."""
    return fact.isolation if isinstance(fact, AdapterForged | Judged | AdapterFailed | GpuInterrupted) else ()


def unisolated_jobs(facts: Iterable[RecordedFact]) -> list[str]:
    """A line for each job that ran unisolated."""
    return [
        f"the {fact.job or 'job'} of attempt {fact.attempt} ran {isolation_text(job_isolation(fact))}"
        for fact in (recorded.fact for recorded in facts)
        if is_unisolated(job_isolation(fact))
    ]


def end_reason(fact: Fact) -> str | None:
    """Why this fact ended its ritual without an adapter that serves; None for one that did not."""
    match fact:
        case KarmaRefused() | GpuRefused() | AdapterFailed() | AdapterKept():
            return fact.reason or None
        case AdapterBanished():
            return " ".join(fact.reasons) or None
        case RitualCancelled():
            return fact.why or None
    return None


def _text(fact: Fact) -> str:
    match fact:
        case KarmaHarvested():
            return _harvested(fact)
        case GpuEvacuated():
            return _evacuated(fact)
        case AdapterForged():
            return _forged(fact)
        case AdapterVerified():
            return fact.decision
        case AdapterBanished():
            return f"the verdict is {fact.decision}"  # its reasons are shown with the verdict
        case GpuRestored():
            return _restored(fact)
        case GpuInterrupted():
            return f"asked for: {fact.reason}" if fact.asked else fact.reason
        case AdapterRegistered():
            return fact.version
        case AdapterProposed():
            return f"{fact.version} waits for approval until {fact.until.astimezone():%Y-%m-%d %H:%M}"
        case AdapterAwakened():
            return f"{fact.alias} answers as {fact.version}, proven by {fact.probes} probes"
    return end_reason(fact) or ""


def _harvested(fact: KarmaHarvested) -> str:
    counts = f"{fact.train} to train, {fact.dev} for dev, {fact.held_out} sealed"
    left_out = sum(fact.excluded.values())
    return f"{counts}; {left_out} left out" if left_out else counts


def _evacuated(fact: GpuEvacuated) -> str:
    memory = f"memory {size(fact.memory_before)} → {size(fact.memory_after)}"
    counts = {"drained": fact.drained, "aborted": fact.aborted}
    requests = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f"{memory}; requests: {requests}" if requests else memory


def _forged(fact: AdapterForged) -> str:
    figures = fact.training
    before, after = figures.dev_loss_before, figures.dev_loss_after
    seen, dev = figures.dev_examples, figures.mask_audit.dev.examples
    of = f" on {seen} of {dev} examples" if seen < dev else ""
    name = "dev loss" if figures.loss == "sft" else f"dev loss ({figures.loss})"
    loss = [f"{name} {before:.3f} → {after:.3f}{of}"] if before is not None and after is not None else []
    speed = f"{figures.tokens_per_s:.0f} tokens/s with {figures.choice.engine} ({figures.choice.why})"
    picked = f"; {figures.provenance.recipe_reason}" if figures.provenance.recipe_reason else ""
    parts = [
        f"{figures.steps} steps" + (f" (ended early: {figures.ended_early})" if figures.ended_early else ""),
        *loss,
        *_preferred(figures.preference),
        speed,
        _memory(figures.memory),
        *_replayed(figures.replay),
    ]
    return ", ".join(parts) + picked


def _memory(memory: MemoryFigures) -> str:
    """The measured peak beside the estimate, and what takes most of it."""
    if not memory.terms:
        return f"memory {size(memory.peak)}"
    largest = max(memory.terms, key=lambda term: memory.terms[term])
    again = ", activations computed again" if memory.checkpointing else ""
    parts = f"most in {largest}; {memory.rows} of up to {memory.length} tokens at once{again}"
    return f"memory {size(memory.peak)} of {size(memory.estimated)} estimated ({parts})"


def _preferred(figures: PreferenceFigures | None) -> list[str]:
    """How much likelier than the rejected answers of held-out pairs the chosen ones are, in nats, and their own loss."""
    if figures is None:
        return []
    return [
        f"chosen over rejected {figures.margin_before:+.1f} → {figures.margin_after:+.1f} on {figures.pairs} held-out pairs "
        f"(NLL of the chosen {figures.chosen_nll_before:.2f} → {figures.chosen_nll_after:.2f})"
    ]


def _replayed(replay: ReplayFigures) -> list[str]:
    """Where the base's own answers came from, and whether their share was reached."""
    if not replay.wanted_tokens:
        return []
    counts = [f"{replay.cached} made before", f"{replay.generated} in the job"]
    missing = f", about {replay.missing} MISSING" if replay.missing else ""
    return [f"replay of {replay.cached + replay.generated} answers ({', '.join(counts)}{missing})"]


def _restored(fact: GpuRestored) -> str:
    parts = [f"after {duration(fact.seconds_without_inference)} without inference"]
    if fact.probes_equal is not None:
        parts.append("every model answers as before" if fact.probes_equal else "models answer differently than before")
    if fact.missing:
        parts.append(f"missing: {', '.join(fact.missing)}")
    return "; ".join(parts)
