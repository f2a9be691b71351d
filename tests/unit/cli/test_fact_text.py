"""Facts in a few words."""

from __future__ import annotations

import pytest

from deploy.cli.errors import UserError
from deploy.cli.format import parse_duration
from deploy.cli.views.fact_text import fact_text
from shared.contracts.forge import AdapterFailed, AdapterForged, PreferenceFigures, ReplayFigures
from shared.contracts.message import Fact
from tests.support.facts import SHORT, TRAINING
from tests.unit.cli.rows import (
    AWAKENED,
    BANISHED,
    FORGED,
    HARVESTED,
    NAMED,
    REGISTERED,
    evacuated,
    interrupted,
    restored,
)

MEMORY = "memory 3.0 GiB → 0 B"
WITHOUT_DEV = TRAINING.model_copy(update={"dev_loss_before": None, "dev_loss_after": None})
MANY_DEV = TRAINING.mask_audit.model_copy(update={"dev": TRAINING.mask_audit.dev.model_copy(update={"examples": 5116})})
CAPPED = TRAINING.model_copy(update={"dev_examples": 256, "mask_audit": MANY_DEV})
WALLED, UNWALLED = ("environment", "network", "filesystem"), ("environment",)
PROVENANCE = TRAINING.provenance.model_copy(update={"recipe_reason": "auto: r 16"})
PICKED = WITHOUT_DEV.model_copy(update={"provenance": PROVENANCE})
UNISOLATED = "UNISOLATED: only environment"
AWAY = "after 22 s without inference"
SPEED = "251 tokens/s with trl (the recipe names it)"
TAKEN = "memory 900 MiB of 1000 MiB estimated (most in weights; 8 of up to 9 tokens at once)"
REPLAY = "replay of 4 answers (3 made before, 1 in the job)"
PREFERRED = TRAINING.model_copy(
    update={
        "loss": "dpo",
        "replay": ReplayFigures(),
        "preference": PreferenceFigures(
            pairs=9, margin_before=-12.51, margin_after=8.04, chosen_nll_before=2.5, chosen_nll_after=2.4
        ),
    }
)
NO_REPLAY = WITHOUT_DEV.model_copy(update={"replay": ReplayFigures()})


@pytest.mark.parametrize(
    ("fact", "text"),
    [
        (HARVESTED, "155 to train, 15 for dev, 37 sealed; 5 left out"),
        (evacuated(), MEMORY),
        (evacuated(drained=3), f"{MEMORY}; requests: 3 drained"),
        (evacuated(drained=3, aborted=1), f"{MEMORY}; requests: 3 drained, 1 aborted"),
        (
            AdapterForged(**NAMED, **FORGED, training=TRAINING),
            f"40 steps, dev loss 2.500 → 1.250, {SPEED}, {TAKEN}, {REPLAY}",
        ),
        (
            AdapterForged(**NAMED, **FORGED, training=CAPPED),
            f"40 steps, dev loss 2.500 → 1.250 on 256 of 5116 examples, {SPEED}, {TAKEN}, {REPLAY}",
        ),
        (AdapterForged(**NAMED, **FORGED, training=NO_REPLAY), f"40 steps, {SPEED}, {TAKEN}"),
        (
            AdapterForged(**NAMED, **FORGED, training=PREFERRED),
            "40 steps, dev loss (dpo) 2.500 → 1.250, chosen over rejected -12.5 → +8.0 on 9 held-out pairs "
            f"(NLL of the chosen 2.50 → 2.40), {SPEED}, {TAKEN}",
        ),
        (
            AdapterForged(**NAMED, **FORGED, training=SHORT),
            f"40 steps, dev loss 2.500 → 1.250, {SPEED}, {TAKEN}, "
            "replay of 3 answers (2 made before, 1 in the job, about 4 MISSING)",
        ),
        (
            AdapterForged(**NAMED, **FORGED, training=WITHOUT_DEV),
            f"40 steps, {SPEED}, {TAKEN}, {REPLAY}",
        ),
        (
            AdapterForged(**NAMED, **FORGED, training=WITHOUT_DEV, isolation=WALLED),
            f"40 steps, {SPEED}, {TAKEN}, {REPLAY}",
        ),
        (
            AdapterForged(**NAMED, **FORGED, training=WITHOUT_DEV, isolation=UNWALLED),
            f"40 steps, {SPEED}, {TAKEN}, {REPLAY}; {UNISOLATED}",
        ),
        (
            AdapterForged(**NAMED, **FORGED, training=PICKED),
            f"40 steps, {SPEED}, {TAKEN}, {REPLAY}; auto: r 16",
        ),
        (BANISHED.model_copy(update={"isolation": UNWALLED}), f"the verdict is banish; {UNISOLATED}"),
        (AdapterFailed(**NAMED, reason="no", isolation=UNWALLED), f"no; {UNISOLATED}"),
        (interrupted("lost").model_copy(update={"isolation": UNWALLED}), f"lost; {UNISOLATED}"),
        (BANISHED, "the verdict is banish"),
        (AdapterFailed(**NAMED, reason="out of\nmemory"), "out of memory"),
        (restored(), AWAY),
        (restored(probes_equal=True), f"{AWAY}; every model answers as before"),
        (
            restored(probes_equal=False, missing=("scribe@b",)),
            f"{AWAY}; models answer differently than before; missing: scribe@b",
        ),
        (interrupted("lease lost"), "lease lost"),
        (interrupted("wanted back", asked=True), "asked for: wanted back"),
        (REGISTERED, "scribe@a"),
        (AWAKENED, "scribe answers as scribe@a, proven by 3 probes"),
    ],
)
def test_a_fact_in_words(fact: Fact, text: str) -> None:
    assert fact_text(fact) == text


def test_a_training_that_ended_early_is_reported_with_the_reason() -> None:
    short = TRAINING.model_copy(update={"ended_early": "its 600 s were over"})
    assert fact_text(AdapterForged(**NAMED, **FORGED, training=short)).startswith(
        "40 steps (ended early: its 600 s were over), "
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("10m", 600), ("2h", 7200), ("1d", 86400), ("1h30m", 5400), ("2 h", 7200), ("1.5M", 90), ("45", 45)],
)
def test_durations_are_parsed_as_they_are_written(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5m", "10 minutes", "m", "5m later", "1e3", "nan"])
def test_what_is_not_a_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UserError, match="write it like 30s, 10m or 2h"):
        parse_duration(text)
