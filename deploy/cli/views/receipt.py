"""The receipt of one hand-over of the anvil, as a document in `soulforge show --json`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from enum import StrEnum

from pydantic import Field

from services.orchestrator.views import Answers, Handover, HandoverStep, Step, differing, missing
from shared.contracts.frozen import Frozen

Figures = Mapping[str, str | bool | int]  # bool first, or JSON would have 1 for true


class Phase(StrEnum):
    """The three phases of a hand-over, in this order."""

    EVACUATION = "evacuation"
    WORK = "GPU work"
    RESTORATION = "restoration"


class PhaseReport(Frozen):
    """One phase of a hand-over; `seconds` count to now while it is under way."""

    name: Phase
    began_at: datetime
    ended_at: datetime | None
    seconds: float


class StepReport(Frozen):
    """One step. `part` is the rune or queue that it was about, `detail` the figures that it found; memory in bytes."""

    step: Step
    part: str
    phase: Phase
    began_at: datetime
    ended_at: datetime | None
    seconds: float | None
    tries: int
    detail: Figures


class ProbesReport(Frozen):
    """Whether the models answer a fixed prompt as before. `before` and `after` are the answers, by rune and model."""

    equal: bool | None = Field(description="Null where no model could be asked before, or none was asked afterwards.")
    asked: int = Field(description="Models that answered before.")
    differing: tuple[str, ...] = Field(description="Models that answer differently than before.")
    missing: tuple[str, ...] = Field(description="Models that answered before and do not now.")
    before: dict[str, Answers] | None
    after: dict[str, Answers] | None


class HandOverReport(Frozen):
    """One hand-over of the anvil; a time that is null has not come."""

    anvil: str
    fence: int
    attempt: int
    began_at: datetime
    suspended_at: datetime | None
    evacuated_at: datetime | None
    released_at: datetime | None
    restored_at: datetime | None
    memory_before: int | None
    memory_after: int | None
    memory_restored: int | None = None
    expected_s: float | None = Field(None, description="Seconds without inference that were announced.")
    seconds_without_inference: float | None
    drained: int | None = Field(None, description="Requests that were answered whole; null before they were drained.")
    aborted: int | None = Field(None, description="Requests that were ended because the grace was over.")
    probes: ProbesReport
    phases: tuple[PhaseReport, ...]
    steps: tuple[StepReport, ...]


def build_receipt(row: Handover, now: datetime) -> HandOverReport:
    """The receipt of a hand-over, which may be under way."""
    phases = tuple(_phases(row, now))
    return HandOverReport(
        anvil=row.anvil,
        fence=row.fence,
        attempt=row.attempt,
        began_at=row.began_at,
        suspended_at=row.suspended_at,
        evacuated_at=row.evacuated_at,
        released_at=row.released_at,
        restored_at=row.restored_at,
        memory_before=row.memory_before,
        memory_after=row.memory_after,
        memory_restored=row.memory_restored,
        expected_s=row.expected_s,
        seconds_without_inference=row.seconds_without_inference,
        drained=_total(row.steps, "drained"),
        aborted=_total(row.steps, "aborted"),
        probes=compare(row.probes_before, row.probes_after),
        phases=phases,
        steps=tuple(_step(step, phases) for step in row.steps),
    )


def compare(before: dict[str, Answers] | None, after: dict[str, Answers] | None) -> ProbesReport:
    """Compare what every model of every rune answered before with what it answers afterwards."""
    asked = {rune: answers for rune, answers in (before or {}).items() if any(_given(answers))}
    other = {rune: differing(answers, (after or {}).get(rune, {})) for rune, answers in asked.items()}
    gone = {rune: missing(answers, (after or {}).get(rune, {})) for rune, answers in asked.items()}
    known = bool(asked and after)
    return ProbesReport(
        equal=not any(other.values()) if known else None,
        asked=sum(sum(_given(answers)) for answers in asked.values()),
        differing=tuple(_names(other, len(asked) > 1)) if known else (),
        missing=tuple(_names(gone, len(asked) > 1)) if known else (),
        before=before,
        after=after,
    )


def _given(answers: Answers) -> Iterator[bool]:
    return (answer is not None for answer in answers.values())


def _names(models: dict[str, list[str]], several: bool) -> Iterable[str]:
    """The models, with their rune where there is more than one."""
    return (f"{model} on {rune}" if several else model for rune, found in models.items() for model in found)


def _phases(row: Handover, now: datetime) -> Iterator[PhaseReport]:
    """The phases so far. An evacuation that was refused or abandoned is followed by the restoration at once."""
    taken_back = next((step.began_at for step in row.steps if step.step is Step.TAKE_BACK), row.released_at)
    yield _phase(Phase.EVACUATION, row.began_at, row.evacuated_at or taken_back, now)
    if row.evacuated_at:
        yield _phase(Phase.WORK, row.evacuated_at, taken_back, now)
    if taken_back:
        yield _phase(Phase.RESTORATION, taken_back, row.restored_at, now)


def _phase(name: Phase, began_at: datetime, ended_at: datetime | None, now: datetime) -> PhaseReport:
    seconds = max(((ended_at or now) - began_at).total_seconds(), 0.0)
    return PhaseReport(name=name, began_at=began_at, ended_at=ended_at, seconds=seconds)


def _step(step: HandoverStep, phases: tuple[PhaseReport, ...]) -> StepReport:
    restoration = next((phase for phase in phases if phase.name is Phase.RESTORATION), None)
    back = restoration is not None and step.began_at >= restoration.began_at
    return StepReport(
        step=step.step,
        part=step.part,
        phase=Phase.RESTORATION if back else Phase.EVACUATION,
        began_at=step.began_at,
        ended_at=step.ended_at,
        seconds=(step.ended_at - step.began_at).total_seconds() if step.ended_at else None,
        tries=step.tries,
        detail=step.detail,
    )


def _total(steps: Iterable[HandoverStep], figure: str) -> int | None:
    found = [value for step in steps if isinstance(value := step.detail.get(figure), int)]
    return sum(found) if found else None
