"""The progress of a running job, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client import generate_latest

from shared.contracts.intent import RitualProgress
from shared.contracts.job import Progress
from shared.runtime.metrics import JOB_PROGRESS, forget_progress, show_progress


def samples(job: str) -> dict[str, float]:
    lines = [line.split() for line in generate_latest().decode().splitlines() if f'job="{job}"' in line]
    return {name.partition("{")[0]: float(value) for name, value in lines}


def test_what_a_job_reports_is_shown_while_it_runs_and_not_afterwards() -> None:
    show_progress("trainer", Progress(phase="checkpoint", done=20, total=40, unit="steps", dev_loss=1.5))
    show_progress("trainer", Progress(phase="train", done=21, total=40, unit="steps", loss=0.5, energy_j=7.0))

    assert samples("trainer") == {
        "soulforge_job_done": 21,
        "soulforge_job_total": 40,
        "soulforge_job_loss_nats": 0.5,
        "soulforge_job_dev_loss_nats": 1.5,
        "soulforge_job_energy_joules": 7,
    }
    forget_progress("trainer")
    forget_progress("trainer")
    assert samples("trainer") == {}


def test_every_figure_of_the_progress_is_a_metric_and_goes_on_the_bus() -> None:
    figures = Progress.model_fields.keys() - {"phase", "unit"}

    assert JOB_PROGRESS.keys() == figures
    assert RitualProgress.model_fields.keys() >= Progress.model_fields.keys()
