"""Jobs, events and checkpoints in OpenAI's form. What that has no field for is under `soulforge`."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from services.gateway.errors import Refusal
from services.gateway.jobs.request import JobRequest

if TYPE_CHECKING:
    from services.gateway.jobs.store import Job, RecordedEvent
    from shared.contracts.forge import AdapterForged

CHECKPOINT = re.compile(r"ftjob-[0-9a-f]{24}:ckpt-step-\d{1,9}")


def describe_job(job: Job) -> dict[str, Any]:
    request = JobRequest.model_validate(job.asked)
    hyperparameters, method = request.chosen.describe(), "dpo" if request.learns_preferences else "supervised"
    return {
        "object": "fine_tuning.job",
        "id": job.id,
        "created_at": _seconds(job.created_at),
        "finished_at": _seconds(job.ended_at),
        "estimated_finish": None,
        "status": job.status,
        "model": job.model,
        "fine_tuned_model": job.fine_tuned_model,
        "organization_id": job.requested_by,
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "result_files": [],
        "hyperparameters": hyperparameters,
        "method": {"type": method, method: {"hyperparameters": hyperparameters}},
        "seed": job.seed,
        "metadata": job.asked["metadata"],
        "integrations": [],
        "trained_tokens": job.trained_tokens,
        "error": job.error,
        "soulforge": {
            "persona": job.persona,
            "ritual": str(job.ritual),
            "waits_for": job.waits_for,
            "waits_until": _seconds(job.waits_until),
        },
    }


def describe_event(job: str, recorded: RecordedEvent) -> dict[str, Any]:
    event = recorded.event
    return {
        "object": "fine_tuning.job.event",
        "id": event_id(job, recorded.seq),
        "created_at": _seconds(recorded.at),
        "level": event.level,
        "message": event.message,
        "type": event.type,
        "data": event.data,
    }


def event_id(job: str, seq: int) -> str:
    """Of an event: a reader that gives it back as `after`, or as Last-Event-ID, goes on behind it."""
    return f"ftevent-{job.removeprefix('ftjob-')}-{seq}"


def parse_event_id(job: str, id: str, param: str) -> int:
    """The number of an event of this job. Raises Refusal."""
    if found := re.fullmatch(rf"ftevent-{re.escape(job.removeprefix('ftjob-'))}-(\d{{1,9}})", id):
        return int(found[1])
    raise Refusal(400, "invalid_value", f"`{param}`: {id[:100]!r} is no event of {job}", param=param)


def describe_checkpoints(job: Job, forged: AdapterForged, at: datetime) -> list[dict[str, Any]]:
    """The checkpoints of the training, the newest first."""
    return [
        {
            "object": "fine_tuning.job.checkpoint",
            "id": f"ftckpt-{job.id.removeprefix('ftjob-')}-{one.step}",
            "created_at": _seconds(at),
            "fine_tuning_job_id": job.id,
            "fine_tuned_model_checkpoint": f"{job.id}:ckpt-step-{one.step}",
            "step_number": one.step,
            "metrics": {"step": one.step, "train_loss": one.loss, "full_valid_loss": one.dev_loss},
        }
        for one in sorted(forged.training.checkpoints, key=lambda one: one.step, reverse=True)
    ]


def check_name(model: str) -> None:
    """Raise Refusal where a client asks for a checkpoint, which never serves."""
    if CHECKPOINT.fullmatch(model):
        message = f"{model} is a checkpoint of a job: it was never evaluated, so that nothing loads it. Ask for the job's fine_tuned_model"
        raise Refusal(404, "checkpoint_not_served", message, param="model")


def _seconds(moment: datetime | None) -> int | None:
    return int(moment.timestamp()) if moment else None
