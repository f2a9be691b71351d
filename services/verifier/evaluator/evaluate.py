"""The evaluation: load once, then run both arms over suite, holdout and probes, and write `results.json`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from services.verifier.evaluator import base_logic
from services.verifier.evaluator.arms import BATCH, Arms, generated, load, nlls, without_special_tokens
from services.verifier.evaluator.holdout import (
    HoldoutItem,
    read_holdout,
    rendered_answer,
    rendered_prompt,
    rendered_question,
    score,
    shown,
)
from services.verifier.evaluator.inputs import expect_digest, expect_sound_adapter
from services.verifier.job import EvaluatorJob
from services.verifier.results import RESULTS_FILE, BaseScores, HeldOut, ItemScore, Results, SuiteAsked
from shared.contracts.job import Progress
from shared.contracts.verify import Arm, Probe
from shared.jobs.result_writer import ResultWriter
from shared.storage.artifacts import write_atomically
from shared.storage.digests import digest_tree

ARMS = (Arm.BASE, Arm.CANDIDATE)


class Report:
    """Progress of the evaluation: the answer of one arm to one item is one of `total`."""

    def __init__(self, writer: ResultWriter) -> None:
        self.total = 0
        self._writer = writer
        self._phase = "start"
        self._done = 0
        self._first_ns: int | None = None

    @contextmanager
    def span(self, phase: str) -> Iterator[None]:
        """Time a step and name it in the progress."""
        self._phase = phase
        self._write()
        with self._writer.span(phase):
            yield

    def advance(self, items: int) -> None:
        """Count `items` more answers of one arm."""
        self._done = min(self._done + items, self.total)
        self._write()

    def _write(self) -> None:
        self._writer.progress(
            Progress(phase=self._phase, done=self._done, total=self.total, unit="items", eta_s=self._eta_s())
        )

    def _eta_s(self) -> float | None:
        # Loading takes another pace: the clock starts at the first item.
        if self._first_ns is None:
            self._first_ns = time.monotonic_ns() if self.total else None
        if self._first_ns is None or not self._done:
            return None
        elapsed_s = (time.monotonic_ns() - self._first_ns) / 1e9
        return round(elapsed_s / self._done * (self.total - self._done), 1)


def evaluate(job: EvaluatorJob, writer: ResultWriter) -> Results:
    """Run the evaluation. Raises InputError when an input is unusable; any other error may pass on a retry."""
    report = Report(writer)
    expect_digest("holdout", job.holdout, job.holdout_digest)
    sealed = read_holdout(job.holdout)
    suite_digest = digest_tree(job.suites / base_logic.SUITE)
    with report.span("load"):
        arms = _loaded(job)
    holdout, left_out = shown(arms.tokenizer, sealed)
    cached = _cached(job.base_scores, job.base_digest, suite_digest, arms.engine)
    suite_arms = 1 if cached else 2
    report.total = suite_arms * base_logic.count(job.suites) + 2 * len(holdout) + 2 * len(job.probe_prompts)
    base, candidate, chance = _base_logic(job, arms, cached, report)
    results = Results(
        base_digest=job.base_digest,
        arms={Arm.BASE: None, Arm.CANDIDATE: job.adapter_digest},
        holdout_digest=job.holdout_digest,
        engine=arms.engine,
        seed=job.seed,
        base_scores="cached" if cached else "measured",
        suites={
            base_logic.NAME: SuiteAsked(digest=suite_digest, version=1, items=len(candidate), chance=chance),
        },
        items=(*base, *candidate),
        holdout=_holdout(job, arms, holdout, report),
        probes=_probes(job, arms, report),
        holdout_left_out=left_out,
    )
    write_atomically(job.output / RESULTS_FILE, results.model_dump_json(indent=1) + "\n")
    return results


def _loaded(job: EvaluatorJob) -> Arms:
    expect_digest("base", job.base, job.base_digest)
    if job.adapter is not None and job.adapter_digest is not None:
        expect_digest("adapter", job.adapter, job.adapter_digest)
        expect_sound_adapter(job.adapter)
    return load(job.base, job.adapter, job.seed)


def _cached(path: Path | None, base_digest: str, suite_digest: str, engine: str) -> tuple[ItemScore, ...] | None:
    """Read earlier scores of the same base on the same items by the same engine; None where there are none."""
    if path is None:
        return None
    try:
        scores = BaseScores.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    suite = scores.suites.get(base_logic.NAME)
    same = suite and (scores.base_digest, suite.digest, scores.engine) == (base_digest, suite_digest, engine)
    return scores.items if same else None


def _base_logic(
    job: EvaluatorJob, arms: Arms, cached: tuple[ItemScore, ...] | None, report: Report
) -> tuple[tuple[ItemScore, ...], tuple[ItemScore, ...], dict[str, float]]:
    base = cached
    if base is None:
        with report.span("base_logic.base"):
            base = tuple(base_logic.measure(arms, Arm.BASE, job.suites, job.seed, report.advance)[0])
    with report.span("base_logic.candidate"):
        candidate, chance = base_logic.measure(arms, Arm.CANDIDATE, job.suites, job.seed, report.advance)
    return base, tuple(candidate), chance


def _holdout(job: EvaluatorJob, arms: Arms, items: list[HoldoutItem], report: Report) -> tuple[HeldOut, ...]:
    prompts = [rendered_prompt(arms.tokenizer, item) for item in items]
    nll, answer = {}, {}
    with report.span("holdout"):
        for arm in ARMS:
            nll[arm] = nlls(arms, arm, items)
            answer[arm] = generated(arms, arm, prompts, job.answer_max_tokens, BATCH, report.advance)
    return tuple(
        score(item, {arm: nll[arm][at] for arm in ARMS}, {arm: answer[arm][at] for arm in ARMS}, _reference(arms, item))
        for at, item in enumerate(items)
    )


def _reference(arms: Arms, item: HoldoutItem) -> str | None:
    """The turn that an answer is compared with; None where that makes no call and checks alone can judge it."""
    if not item.messages[-1].tool_calls:
        return None
    return without_special_tokens(arms, rendered_answer(arms.tokenizer, item))


def _probes(job: EvaluatorJob, arms: Arms, report: Report) -> tuple[Probe, ...]:
    prompts = [rendered_question(arms.tokenizer, prompt) for prompt in job.probe_prompts]
    with report.span("probes"):
        # One at a time: padding moves bfloat16 sums, and the serving engine is asked one at a time too.
        base, candidate = (generated(arms, arm, prompts, job.probe_max_tokens, 1, report.advance) for arm in ARMS)
    return tuple(
        Probe(prompt=prompt, base=base[at], candidate=candidate[at]) for at, prompt in enumerate(job.probe_prompts)
    )
