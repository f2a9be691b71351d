"""Metrics of every service's runtime, in Prometheus' terms. Labels hold closed sets only, never ids.

JOB_PROGRESS is by the field of the progress that it shows. Without a running job it has no value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from shared.contracts.job import Progress

FACTS = Counter("soulforge_facts_recorded_total", "Facts recorded about rituals.", ["subject"])
RITUAL_ERRORS = Counter("soulforge_ritual_errors_total", "Errors met while a ritual was worked on.", ["state"])
LOOP_SECONDS = Histogram("soulforge_loop_seconds", "Time of one pass of a background loop.", ["loop"])
LOOP_ERRORS = Counter("soulforge_loop_errors_total", "Passes that ended in an error and are repeated.", ["loop"])
JOB_PROGRESS = {
    "done": Gauge("soulforge_job_done", "What the running job has done of its phase, in units of its own.", ["job"]),
    "total": Gauge("soulforge_job_total", "What its phase has in all.", ["job"]),
    "eta_s": Gauge("soulforge_job_eta_seconds", "Time left, by its own estimate.", ["job"]),
    "tokens": Gauge("soulforge_job_tokens", "Tokens seen, without padding.", ["job"]),
    "tokens_per_s": Gauge("soulforge_job_tokens_per_second", "Tokens seen per second.", ["job"]),
    "loss": Gauge("soulforge_job_loss_nats", "Loss of the last step; with loss sft per trained token.", ["job"]),
    "dev_loss": Gauge("soulforge_job_dev_loss_nats", "Last dev loss, in the same.", ["job"]),
    "learning_rate": Gauge("soulforge_job_learning_rate", "Learning rate of the last step.", ["job"]),
    "memory_bytes": Gauge("soulforge_job_memory_bytes", "Peak memory: the device's where there is one.", ["job"]),
    "energy_j": Gauge("soulforge_job_energy_joules", "Energy used, by the device's own counter.", ["job"]),
}
OUTBOX_AGE_SECONDS = Gauge("soulforge_outbox_oldest_seconds", "Age of the oldest message that is not published yet.")


def show_progress(job: str, progress: Progress) -> None:
    """Show what a running job last reported."""
    for name, gauge in JOB_PROGRESS.items():
        if (value := getattr(progress, name)) is not None:
            gauge.labels(job).set(value)


def forget_progress(job: str) -> None:
    """Show no progress, as no such job runs."""
    for gauge in JOB_PROGRESS.values():
        gauge.remove(job)
