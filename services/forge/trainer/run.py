"""One training run, from the job to its result: read, load, render, audit, train, save."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TypeVar

from services.forge.job import ADAPTER_DIR, CHECKPOINTS_DIR, LEFT_OUT_FILE, PREVIEWS_FILE, TrainerJob
from services.forge.trainer import checkpoints
from services.forge.trainer.choice import choose, hand_over
from services.forge.trainer.engines.port import Engine, Trained
from services.forge.trainer.mask import Audit, audit, expect_enough, fault, length_limit
from services.forge.trainer.memory import idle_bytes, plan_memory, within_memory
from services.forge.trainer.pilot import SEEN, Rate, measure
from services.forge.trainer.preferences import (
    DEV_PAIRS,
    Pair,
    Source,
    list_pairs,
    list_sources,
    render_pair,
    render_source,
)
from services.forge.trainer.provenance import provenance
from services.forge.trainer.render import Example, UnfitRow
from services.forge.trainer.replay import compose
from services.forge.trainer.rows import DEV, TRAIN, Split, read_rows
from services.forge.trainer.stop import StopRequest
from shared.config.engines import refused
from shared.contracts.forge import (
    EngineChoice,
    MaskAudit,
    MemoryFigures,
    Provenance,
    ReplayFigures,
    SplitFigures,
    TrainingFigures,
)
from shared.contracts.job import Progress
from shared.jobs.chat_template import unrendered
from shared.jobs.result_writer import InputError, ResultWriter
from shared.jobs.start_limit import require_in_time
from shared.storage.digests import digest_file, digest_text

REASONS = 20  # most that go on the bus; LEFT_OUT_FILE has all of them
MOST_DEV = 256  # examples on which a dev loss is measured, at every checkpoint
MOST_PAIRS = 64  # on which the adapter is compared with the base, once
E = TypeVar("E", bound=Example)


def run(job: TrainerJob) -> int:
    """Train and write a result to the output directory, also after any error. Returns the exit status."""
    writer, stop = ResultWriter(job.output), StopRequest()
    stop.listen()
    work = _pilot if job.pilot else _forge
    return writer.run(lambda: work(job, writer, stop))


def _pilot(job: TrainerJob, writer: ResultWriter, stop: StopRequest) -> Rate:
    engine, idle = _engine(job), idle_bytes()
    engine.load(job)
    rows, _ = read_rows(job.manifest_dir, job.manifest_digest)
    examples, _ = _examples(engine, job, islice(rows, SEEN), trained=True)
    job = within_memory(job, plan_memory(job, examples, idle))
    return measure(job, engine, examples, writer, stop)


def _forge(job: TrainerJob, writer: ResultWriter, stop: StopRequest) -> TrainingFigures:
    require_in_time(job)
    if (job.output / ADAPTER_DIR).exists():
        raise InputError(f"{job.output} already holds an adapter: give every attempt a fresh directory")
    with stop.at_once("before the first step"):
        train_rows, dev_rows = read_rows(job.manifest_dir, job.manifest_digest)
        train_sources, dev_sources = _sources(job, train_rows, dev_rows)
        if job.others:
            with writer.span("choose"):
                job = _chosen(job, train_rows, writer)
        with writer.span("load"):
            writer.progress(Progress(phase="load", done=0, total=1, unit="models"))
            engine, idle = _engine(job), idle_bytes()
            engine.load(job)
        with writer.span("tokenize"):
            writer.progress(Progress(phase="tokenize", done=0, total=1, unit="manifests"))
            train, train_audit = _examples(engine, job, train_sources, trained=True)
            expect_enough(train_audit)
            rendered_dev, dev_audit = _examples(engine, job, dev_sources, trained=False)
            dev = measured(rendered_dev)
            held_out = _held_out(engine, job)
        with writer.span("replay"):
            limit = length_limit(job.recipe.max_length, [], engine.context)
            replay = compose(engine, job, train_audit.trained_tokens, limit, writer)
        _write_previews(job, train_audit)
        _write_left_out(job, {TRAIN: train_audit, DEV: dev_audit})
        memory = plan_memory(job, [*train, *replay.examples, *dev], idle)
        job = within_memory(job, memory)
        run = checkpoints.identity(job, checkpoints.digest_examples([*train, *replay.examples, *dev]))
        resume = checkpoints.bring(job.resume_from, job.output / CHECKPOINTS_DIR, run) if job.resume_from else None
    with writer.span("train"):
        trained = engine.train(job, [*train, *replay.examples], dev, resume, writer, stop)
    memory = memory.model_copy(update={"peak": trained.peak_bytes})
    preference = None
    if held_out:
        with writer.span("measure"):
            writer.progress(Progress(phase="measure", done=0, total=len(held_out), unit="pairs"))
            preference = engine.compare(held_out)
    with writer.span("save"):
        adapter = _save(engine, job)
    writer.progress(Progress(phase="save", done=1, total=1, unit="adapters"))
    audits = MaskAudit(train=_audited(train_audit), dev=_audited(dev_audit))
    origin = provenance(job, engine.template, engine.device, str(run[checkpoints.EXAMPLES]))
    choice = job.choice or _only(job)
    figures = _figures(
        trained, audits, len(dev), adapter, replay.figures, memory, writer.seconds("train"), origin, choice
    )
    return figures.model_copy(update={"loss": job.recipe.loss, "preference": preference})


def _chosen(job: TrainerJob, rows: Split, writer: ResultWriter) -> TrainerJob:
    """The job with its choice. Does not return where another engine is chosen: its environment takes the job over."""
    writer.progress(Progress(phase="choose", done=0, total=1, unit="engines"))
    earlier = checkpoints.engine_of(job.resume_from) if job.resume_from else None
    choice = EngineChoice(engine=earlier, why="that of the checkpoint") if earlier else choose(job, rows)
    if choice.engine != job.engine:
        hand_over(job, choice)
    return job.model_copy(update={"choice": choice})


def _engine(job: TrainerJob) -> Engine:
    if reason := refused(job.engine, job.recipe):
        raise InputError(reason)
    # Imported here: they import torch, which takes seconds that bad input need not wait for.
    if job.engine == "unsloth":
        from services.forge.trainer.engines.unsloth import UnslothEngine

        return UnslothEngine()
    if job.executor == "ray":
        from services.forge.trainer.engines.ray import RayEngine

        return RayEngine()
    from services.forge.trainer.engines.trl import TrlEngine

    return TrlEngine()


def _sources(job: TrainerJob, train: Split, dev: Split) -> tuple[Iterable[Source], Iterable[Source]]:
    """What the recipe's loss trains, and what its dev loss is measured on. Raises InputError where there is nothing."""
    return (train, dev) if job.recipe.loss == "sft" else list_sources(job.recipe.loss, job.manifest_dir)


def _held_out(engine: Engine, job: TrainerJob) -> list[Pair]:
    """The pairs on which every loss is compared with the base, at most MOST_PAIRS; none that the base cannot show."""
    if job.engine != "trl":  # Unsloth's forward pass without labels is not shown to be right on every device
        return []
    pairs: list[Pair] = []
    for row in list_pairs(job.manifest_dir, DEV_PAIRS):
        if not _unshown(engine, row):
            with suppress(UnfitRow):
                pairs.append(render_pair(engine.tokenizer, row, engine.end_of_turn))
    fit = [pair for pair in pairs if not any(fault(side, engine.context) for side in pair.sides)]
    return measured(fit)[:MOST_PAIRS]


def _examples(engine: Engine, job: TrainerJob, rows: Iterable[Source], *, trained: bool) -> tuple[list[Example], Audit]:
    """Render and audit a split; only trained rows are left out for being among the longest."""
    rendered: list[Example] = []
    skipped: dict[str, str] = {}
    unfit: dict[str, str] = {}
    for row in rows:
        if reason := _unshown(engine, row):
            skipped[row.id] = reason
            continue
        try:
            rendered += render_source(engine.tokenizer, row, engine.end_of_turn)
        except UnfitRow as error:
            unfit[row.id] = str(error)
    wanted = "auto" if job.recipe.max_length == "p99" and not trained else job.recipe.max_length
    generated = job.recipe.answer_tokens if job.recipe.loss == "sdft" else 0
    limit = length_limit(wanted, [example.longest for example in rendered], engine.context - generated)
    return audit(engine.tokenizer, rendered, skipped, unfit, limit)


def _unshown(engine: Engine, row: Source) -> str | None:
    """Why the base's template cannot show a row, or one side of it."""
    reasons = (unrendered(engine.tokenizer, shown.conversation(), shown.tools) for shown in row.shown)
    return next(filter(None, reasons), None)


def measured(dev: Sequence[E]) -> list[E]:
    """The dev examples whose loss is measured: at most MOST_DEV, chosen by the digests of their ids, so the same in every run."""
    return sorted(dev, key=lambda example: digest_text(example.id))[:MOST_DEV]


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


def _only(job: TrainerJob) -> EngineChoice:
    auto = job.recipe.engine == "auto"
    return EngineChoice(engine=job.engine, why="no other one is here for it" if auto else "the recipe names it")


def _figures(
    trained: Trained,
    audits: MaskAudit,
    dev_examples: int,
    adapter: dict[str, str],
    replay: ReplayFigures,
    memory: MemoryFigures,
    seconds: float,
    origin: Provenance,
    choice: EngineChoice,
) -> TrainingFigures:
    return TrainingFigures(
        steps=trained.steps,
        epochs=trained.epochs,
        final_loss=trained.final_loss,
        dev_loss_before=trained.dev_loss_before,
        dev_loss_after=trained.dev_loss_after,
        dev_examples=dev_examples,
        seen_tokens=trained.seen_tokens,
        tokens_per_s=round((trained.seen_tokens - trained.resumed_tokens) / seconds, 1),
        resumed_at=trained.resumed_at,
        seconds=trained.seconds,
        energy_j=trained.energy_j,
        ended_early=trained.ended_early,
        taken=trained.taken,
        checkpoints=trained.checkpoints,
        memory=memory,
        replay=replay,
        mask_audit=audits,
        adapter=adapter,
        choice=choice,
        versions=trained.versions,
        provenance=origin,
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
