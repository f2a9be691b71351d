"""What a ritual's facts mean to the client of its job, as pure functions: an event for each fact, a status for each state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from services.gateway.jobs.store import Event
from shared.contracts.evacuate import GpuEvacuated, GpuInterrupted, GpuRefused, GpuRestored
from shared.contracts.forge import AdapterFailed, AdapterForged
from shared.contracts.harvest import KarmaHarvested, KarmaRefused
from shared.contracts.intent import RitualCancelled
from shared.contracts.registry import AdapterAwakened, AdapterKept, AdapterProposed, AdapterRegistered
from shared.contracts.ritual import State
from shared.contracts.verify import AdapterBanished, AdapterVerified, Judged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.gateway.jobs.store import Level, Status, Type
    from shared.contracts.message import Fact

SHOWN_ITEMS = 20
STATUS: dict[State, Status] = {
    State.INTENDED: "queued",
    State.HARVESTED: "queued",
    State.EVACUATED: "running",
    State.FORGED: "running",
    State.VERIFIED: "running",
    State.REGISTERED: "running",
    State.AWAITING_APPROVAL: "running",
    State.AWAKENED: "succeeded",
    # The version is good, but nothing loads it: its name would not answer.
    State.KEPT: "failed",
    State.REFUSED: "failed",
    State.FAILED: "failed",
    State.BANISHED: "failed",
    State.CANCELLED: "cancelled",
}
CODES = {
    State.KEPT: "not_promoted",
    State.REFUSED: "refused",
    State.FAILED: "ritual_failed",
    State.BANISHED: "not_better",
}


def event_of(fact: Fact) -> Event:
    """What a client is shown of a fact; it is recorded once, by the fact's id."""
    level: Level = "info"
    type: Type = "message"
    data: dict[str, Any] = {}
    match fact:
        case KarmaHarvested():
            data = {"train": fact.train, "dev": fact.dev, "held_out": fact.held_out, "excluded": fact.excluded}
            text = f"The dataset has {fact.train} rows to train on, {fact.dev} for the loss, {fact.held_out} for the verdict"
        case GpuEvacuated():
            text = f"Training begins: {fact.device} is free"
        case GpuInterrupted():
            level, text = "warn", f"Interrupted: {fact.reason}. It goes on from its checkpoint once the GPU is free"
        case AdapterForged():
            type, data = "metrics", _figures(fact)
            text = f"Training is done after {fact.training.steps} steps; the evaluation begins"
        case GpuRestored():
            text = f"Inference serves again after {fact.seconds_without_inference:.0f} s"
        case AdapterRegistered():
            text = f"{fact.version} is in the Crypt; it is loaded and proven next"
        case AdapterProposed():
            text = f"{fact.version} is loaded and proven, and waits for its owner's approval until {fact.until:%Y-%m-%d %H:%M} UTC"
        case AdapterAwakened():
            data = {"fine_tuned_model": fact.version, "persona": fact.alias}
            text = f"New fine-tuned model created: {fact.version}. It serves as {fact.alias}"
        case AdapterVerified():
            data, text = _evidence(fact), f"The verdict is promote: {'; '.join(fact.reasons)}"
        case KarmaRefused() | GpuRefused() | AdapterFailed() | AdapterBanished() | AdapterKept():
            level, text = "error", reason_of(fact)
            data = _evidence(fact) if isinstance(fact, AdapterBanished) else {}
        case RitualCancelled():
            text = "The job was cancelled" + (f": {fact.why}" if fact.why else "")
        case _:
            text = fact.subject
    return Event(str(fact.event_id), text, level, type, data)


def reason_of(fact: Fact) -> str:
    """Why a ritual ended without a version that serves."""
    match fact:
        case AdapterBanished():
            lost = _flipped(fact)
            return f"The verdict is {fact.decision}: {'; '.join(fact.reasons)}" + (f". {lost}" if lost else "")
        case AdapterKept():
            return f"{fact.version} passed and is in the Crypt, but was not promoted: {fact.reason}"
        case KarmaRefused() | GpuRefused() | AdapterFailed():
            return fact.reason
    return fact.subject


@dataclass(frozen=True)
class End:
    """What a job is at its end."""

    status: Status
    fine_tuned_model: str | None
    error: dict[str, Any] | None
    trained_tokens: int | None


def end_of(state: State, facts: Sequence[Fact]) -> End:
    """The end of the job whose ritual ended in `state` with these facts."""
    status = STATUS[state]
    # After a pause in the evaluation there is another fact of the training, which has all of it.
    forged = [fact for fact in facts if isinstance(fact, AdapterForged)]
    tokens = forged[-1].training.seen_tokens if forged else None
    model = next((fact.version for fact in facts if isinstance(fact, AdapterAwakened)), None)
    error = None
    if status == "failed":
        ends = (KarmaRefused, GpuRefused, AdapterFailed, AdapterBanished, AdapterKept)
        reasons = [reason_of(fact) for fact in facts if isinstance(fact, ends)]
        error = {"code": CODES[state], "message": reasons[-1] if reasons else f"the ritual is {state}", "param": None}
    return End(status, model if status == "succeeded" else None, error, tokens)


def _figures(fact: AdapterForged) -> dict[str, Any]:
    figures = fact.training
    return {
        "step": figures.steps,
        "total_steps": figures.steps,
        "train_loss": figures.final_loss,
        "full_valid_loss": figures.dev_loss_after,
    }


def _evidence(fact: Judged) -> dict[str, Any]:
    won = [item for suite in fact.verdict.suites.values() for item in suite.won]
    return {"decision": fact.decision, "reasons": list(fact.reasons), "lost": _lost(fact), "won": won}


def _flipped(fact: Judged) -> str:
    """The items that the base answers right and the adapter wrong."""
    lost = _lost(fact)
    if not lost:
        return ""
    more = f" and {len(lost) - SHOWN_ITEMS} more (the event of the verdict has all)" if len(lost) > SHOWN_ITEMS else ""
    return f"It now gets these wrong which the base gets right: {', '.join(lost[:SHOWN_ITEMS])}{more}"


def _lost(fact: Judged) -> list[str]:
    return [item for suite in fact.verdict.suites.values() for item in suite.lost]
