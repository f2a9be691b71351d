"""One training run, from the job to its result: read, load, render, audit, train, save."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

from services.forge.job import ADAPTER_DIR, LEFT_OUT_FILE, PREVIEWS_FILE, TrainerJob
from services.forge.trainer import checkpoints
from services.forge.trainer.engines.port import Engine, Trained
from services.forge.trainer.mask import Audit, audit, expect_enough
from services.forge.trainer.render import Example, render
from services.forge.trainer.replay import compose
from services.forge.trainer.rows import DEV, TRAIN, Split, read_rows
from services.forge.trainer.stop import StopRequest
from shared.contracts.forge import MaskAudit, ReplayFigures, SplitFigures, TrainingFigures
from shared.contracts.job import Progress
from shared.jobs.chat_template import unrendered
from shared.jobs.result_writer import InputError, ResultWriter
from shared.jobs.start_limit import require_in_time
from shared.storage.digests import digest_file

REASONS = 20  # most that go on the bus; LEFT_OUT_FILE has all of them


def run(job: TrainerJob) -> int:
    """Train and write a result to the output directory, also after any error. Returns the exit status."""
    writer, stop = ResultWriter(job.output), StopRequest()
    stop.listen()
    return writer.run(lambda: _forge(job, writer, stop))


def _forge(job: TrainerJob, writer: ResultWriter, stop: StopRequest) -> TrainingFigures:
    require_in_time(job)
    if (job.output / ADAPTER_DIR).exists():
        raise InputError(f"{job.output} already holds an adapter: give every attempt a fresh directory")
    train_rows, dev_rows = read_rows(job.manifest_dir, job.manifest_digest)
    resume = checkpoints.newest(job.resume_from, job) if job.resume_from else None
    with writer.span("load"):
        writer.progress(Progress(phase="load", done=0, total=1, unit="models"))
        engine = _engine()
        engine.load(job)
    with writer.span("tokenize"):
        writer.progress(Progress(phase="tokenize", done=0, total=1, unit="manifests"))
        train, train_audit = _examples(engine, job, train_rows, stop)
        expect_enough(train_audit)
        dev, dev_audit = _examples(engine, job, dev_rows, stop)
    with writer.span("replay"):
        replay = compose(engine, job, train_audit.trained_tokens, _longest(engine, job), writer, stop)
    _write_previews(job, train_audit)
    _write_left_out(job, {TRAIN: train_audit, DEV: dev_audit})
    stop.raise_if_made("before the first step")
    with writer.span("train"):
        trained = engine.train(job, [*train, *replay.examples], dev, resume, writer, stop)
    with writer.span("save"):
        adapter = _save(engine, job)
    writer.progress(Progress(phase="save", done=1, total=1, unit="adapters"))
    audits = MaskAudit(train=_audited(train_audit), dev=_audited(dev_audit))
    return _figures(trained, audits, adapter, replay.figures, writer.seconds("train"))


def _engine() -> Engine:
    # Imported here: it imports torch, which takes seconds that bad input need not wait for.
    from services.forge.trainer.engines.trl import TrlEngine

    return TrlEngine()


def _examples(engine: Engine, job: TrainerJob, rows: Split, stop: StopRequest) -> tuple[list[Example], Audit]:
    rendered: list[Example] = []
    skipped: dict[str, str] = {}
    for row in rows:
        stop.raise_if_made("while the rows were rendered")
        if reason := unrendered(engine.tokenizer, row.conversation(), row.tools):
            skipped[row.id] = reason
        else:
            rendered += render(engine.tokenizer, row, engine.end_of_turn)
    return audit(engine.tokenizer, rendered, skipped, _longest(engine, job))


def _longest(engine: Engine, job: TrainerJob) -> int:
    """The longest example, in tokens."""
    return engine.context if job.recipe.max_length == "auto" else min(job.recipe.max_length, engine.context)


def _write_previews(job: TrainerJob, train: Audit) -> None:
    """Write examples of the trained text, for people. Karma's content stays here; the result goes on the bus."""
    text = json.dumps(train.previews, indent=2, ensure_ascii=False) + "\n"
    (job.output / PREVIEWS_FILE).write_text(text, encoding="utf-8")


def _write_left_out(job: TrainerJob, splits: dict[str, Audit]) -> None:
    """Write every row that was not trained, with its reason; the result only counts them, since there may be many."""
    with (job.output / LEFT_OUT_FILE).open("w", encoding="utf-8") as file:
        for split, audited in splits.items():
            for row, reason in (audited.skipped | audited.refused).items():
                file.write(json.dumps({"split": split, "id": row, "reason": reason}, ensure_ascii=False) + "\n")


def _save(engine: Engine, job: TrainerJob) -> dict[str, str]:
    """Write the adapter and rename it once it is complete; returns the digests of its files."""
    unfinished = job.output / f".{ADAPTER_DIR}"
    shutil.rmtree(unfinished, ignore_errors=True)
    engine.save(unfinished, job.base.name)
    unfinished.replace(job.output / ADAPTER_DIR)
    return {file.name: digest_file(file) for file in sorted(Path(job.output / ADAPTER_DIR).iterdir())}


def _figures(
    trained: Trained, audits: MaskAudit, adapter: dict[str, str], replay: ReplayFigures, seconds: float
) -> TrainingFigures:
    return TrainingFigures(
        steps=trained.steps,
        epochs=trained.epochs,
        final_loss=trained.final_loss,
        dev_loss_before=trained.dev_loss_before,
        dev_loss_after=trained.dev_loss_after,
        seen_tokens=trained.seen_tokens,
        tokens_per_s=round(trained.seen_tokens / seconds, 1),
        resumed_at=trained.resumed_at,
        replay=replay,
        mask_audit=audits,
        adapter=adapter,
        versions=trained.versions,
    )


def _audited(split: Audit) -> SplitFigures:
    return SplitFigures(
        rows=split.rows,
        examples=split.examples,
        tokens=split.tokens,
        trained_tokens=split.trained_tokens,
        least_trained=split.least_trained,
        longest=split.longest,
        prompts=split.prompts,
        skipped=_reasons(split.skipped),
        refused=_reasons(split.refused),
    )


def _reasons(left_out: dict[str, str]) -> dict[str, int]:
    return dict(Counter(left_out.values()).most_common(REASONS))
