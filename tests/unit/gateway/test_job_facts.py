"""What a client is shown of a ritual: every fact has an event, and every end a status with its reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.gateway.jobs.facts import SHOWN_ITEMS, STATUS, end_of, event_of
from services.gateway.jobs.follow import find_wait
from services.gateway.jobs.progress import metrics_of
from services.gateway.jobs.store import RitualState
from shared.contracts.evacuate import GpuRefused
from shared.contracts.forge import AdapterFailed, AdapterForged
from shared.contracts.harvest import KarmaRefused
from shared.contracts.intent import RitualProgress
from shared.contracts.message import Fact
from shared.contracts.registry import AdapterKept, AdapterProposed
from shared.contracts.ritual import ENDS, State
from tests.unit.cli.rows import AWAKENED, BANISHED, NAMED, RITUAL, WHOLE

UNTIL = datetime(2026, 12, 1, tzinfo=UTC)
KEPT = AdapterKept(**NAMED, adapter="sha256:a", version="scribe@a", reason="the champion is pinned")


def state(name: str, **values: object) -> RitualState:
    none = dict.fromkeys(RitualState.__dataclass_fields__)
    return RitualState(**{**none, "state": name, **values})  # type: ignore[arg-type]


def test_every_fact_of_a_whole_ritual_is_an_event_once() -> None:
    facts = [one.fact for one in WHOLE]
    events = [event_of(fact) for fact in facts]

    assert len({event.source for event in events}) == len(facts)
    assert all(event.message and not event.message.startswith(("adapter.", "gpu.", "karma.")) for event in events)
    assert [event.type for event in events].count("metrics") == 1
    assert events[-1].data == {"fine_tuned_model": "scribe@a", "persona": "scribe"}


def test_a_job_has_succeeded_once_its_version_serves_and_only_then() -> None:
    assert {found for found in State if STATUS[found] == "succeeded"} == {State.AWAKENED}
    assert {found for found in State if STATUS[found] in ("succeeded", "failed", "cancelled")} == ENDS
    end = end_of(State.AWAKENED, [one.fact for one in WHOLE])
    assert (end.status, end.fine_tuned_model, end.error, end.trained_tokens) == ("succeeded", "scribe@a", None, 360)


def test_the_tokens_are_those_of_the_last_training() -> None:
    facts = [one.fact for one in WHOLE]
    first = next(fact for fact in facts if isinstance(fact, AdapterForged))
    earlier = first.model_copy(update={"training": first.training.model_copy(update={"seen_tokens": 1})})

    assert end_of(State.AWAKENED, [earlier, *facts]).trained_tokens == 360


@pytest.mark.parametrize(
    ("ended", "fact", "code", "reason"),
    [
        (State.REFUSED, KarmaRefused(**NAMED, reason="too little karma"), "refused", "too little karma"),
        (State.REFUSED, GpuRefused(**NAMED, anvil="anvil0", reason="busy"), "refused", "busy"),
        (State.FAILED, AdapterFailed(**NAMED, reason="no memory"), "ritual_failed", "no memory"),
        (State.BANISHED, BANISHED, "not_better", "Too little.; Broken."),
        (State.KEPT, KEPT, "not_promoted", "the champion is pinned"),
    ],
)
def test_a_job_that_failed_has_the_reason(ended: State, fact: Fact, code: str, reason: str) -> None:
    end = end_of(ended, [WHOLE[0].fact, fact])

    assert end.status == "failed" and end.fine_tuned_model is None
    assert end.error and end.error["code"] == code and reason in end.error["message"]
    assert event_of(fact).level == "error" and reason in event_of(fact).message


def test_the_verdict_names_the_items_that_flipped() -> None:
    lost = tuple(f"words-{number}" for number in range(SHOWN_ITEMS + 5))
    logic = BANISHED.verdict.suites["base-logic"].model_copy(update={"lost": lost})
    verdict = BANISHED.verdict.model_copy(update={"suites": {"base-logic": logic}})
    banished = BANISHED.model_copy(update={"verdict": verdict})

    end = end_of(State.BANISHED, [banished])

    assert end.error and f"words-{SHOWN_ITEMS - 1} and 5 more" in end.error["message"]
    assert event_of(banished).data["lost"] == list(lost)


def test_what_a_ritual_waits_for_is_shown_until_when() -> None:
    busy = find_wait(State.HARVESTED, state("harvested", reason="waits: 3 requests a minute", until=UNTIL), [])
    paused = find_wait(State.HARVESTED, state("harvested", reason="waits: x", paused_at=UNTIL, paused_why="tea"), [])
    proposed = AdapterProposed(**NAMED, adapter="sha256:a", version="scribe@a", until=UNTIL)
    approval = find_wait(State.AWAITING_APPROVAL, state("awaiting_approval"), [AWAKENED, proposed])

    assert busy and (busy.reason, busy.until) == ("3 requests a minute", UNTIL)
    assert paused and "tea" in paused.reason and "resume" in paused.reason
    assert approval and "approval" in approval.reason and approval.until == UNTIL
    assert find_wait(State.EVACUATED, state("evacuated", paused_at=UNTIL - timedelta(1)), []) is not None
    assert find_wait(State.EVACUATED, state("evacuated"), []) is None


def test_progress_is_an_event_for_each_hundredth_of_the_training() -> None:
    step = {"ritual": RITUAL, "persona": "scribe", "job": "trainer", "phase": "train", "unit": "steps", "total": 1000}
    events = [metrics_of(RitualProgress(**step, done=done, loss=0.5)) for done in range(1, 1001)]

    assert len({event.source for event in events if event}) == 101
    assert events[9] and events[9].data == {"step": 10, "total_steps": 1000, "train_loss": 0.5}
    assert metrics_of(RitualProgress(**step, done=1)) is None, "another job's progress has no loss"
