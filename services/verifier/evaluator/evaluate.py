"""The evaluation: load once, then ask every arm the suites, the holdout and the probes, and write `results.json`."""

from __future__ import annotations

from collections.abc import Sequence

from services.verifier.evaluator import context, probe_answers, public
from services.verifier.evaluator.arms import BATCH, Arms, generated, load, nlls, reference
from services.verifier.evaluator.holdout import HoldoutItem, read_holdout, rendered_prompt, score, shown, with_prompts
from services.verifier.evaluator.inputs import expect_digest, expect_sound_adapter
from services.verifier.evaluator.probes import list_prompts
from services.verifier.evaluator.report import Report
from services.verifier.evaluator.style import persona_rules
from services.verifier.evaluator.suites import ask, count_repeated, known_scores, measure_drift, repeat
from services.verifier.job import EvaluatorJob
from services.verifier.results import RESULTS_FILE, HeldOut, Results
from shared.config.errors import ConfigurationError
from shared.contracts.probe import Probe
from shared.contracts.verify import Arm
from shared.jobs.result_writer import InputError, ResultWriter
from shared.storage.artifacts import write_atomically
from shared.storage.suites import LoadedSuite, load_suites


def evaluate(job: EvaluatorJob, writer: ResultWriter) -> Results:
    """Run the evaluation. Raises InputError when an input is unusable; any other error may pass on a retry."""
    report = Report(writer)
    expect_digest("holdout", job.holdout, job.holdout_digest)
    sealed, suites = read_holdout(job.holdout), _suites(job)
    with report.span("load"):
        loaded, champion_fault = _loaded(job)
    arms = loaded.arms
    holdout, left_out = shown(loaded.tokenizer, sealed)
    prompted = with_prompts(loaded.tokenizer, holdout)
    known = known_scores(job.base_scores, job.base_digest, loaded.engine, suites)
    counts = [suite.count * (len(arms) - (name in known)) for name, suite in suites.items()]
    probed = len(list_prompts()) if job.probes else 0
    report.total = sum(counts) + len(arms) * (len(holdout) + probed) + count_repeated(suites)
    report.total += context.count(prompted or ())
    found = ask(loaded, arms, suites, known, persona_rules(sealed), job.seed, report)
    with report.span("drift"):
        drift = measure_drift(loaded, suites, found)
    results = Results(
        base_digest=job.base_digest,
        arms={arm: {Arm.CANDIDATE: job.adapter_digest, Arm.CHAMPION: job.champion_digest}.get(arm) for arm in arms},
        holdout_digest=job.holdout_digest,
        engine=loaded.engine,
        seed=job.seed,
        base_scores="cached" if known.keys() == suites.keys() else "measured",
        suites=found.asked,
        style_rules=found.style_rules,
        items=found.items,
        holdout=context.add(
            loaded, _holdout(job, loaded, holdout, report), prompted or (), job.answer_max_tokens, report
        ),
        prompts_shown=prompted is not None,
        probes=_probes(job, loaded, report),
        champion_fault=champion_fault,
        repeated=tuple(repeat(loaded, suites, job.seed, report)),
        holdout_left_out=left_out,
        drift=drift,
    )
    write_atomically(job.output / RESULTS_FILE, results.model_dump_json(indent=1) + "\n")
    return results


def _suites(job: EvaluatorJob) -> dict[str, LoadedSuite]:
    try:
        suites = load_suites(job.suites)
    except ConfigurationError as error:
        raise InputError(f"suites: {error}") from error
    for suite in suites.values():
        if suite.public:  # whether lm-eval can read its rows is known before the base is loaded
            public.chance_of(suite)
    return suites


def _loaded(job: EvaluatorJob) -> tuple[Arms, str | None]:
    """All arms; also why the champion is none of them, though it was to be: it is no reason to judge no candidate."""
    expect_digest("base", job.base, job.base_digest)
    if job.adapter is not None and job.adapter_digest is not None:
        expect_digest("adapter", job.adapter, job.adapter_digest)
        expect_sound_adapter(job.adapter)
    loaded = load(job.base, job.adapter, job.seed)
    if job.champion is None or job.champion_digest is None:
        return loaded, None
    try:
        expect_digest("champion", job.champion, job.champion_digest)
        expect_sound_adapter(job.champion)
        loaded.add_champion(job.champion)
    except InputError as error:
        return loaded, str(error)
    return loaded, None


def _holdout(job: EvaluatorJob, arms: Arms, items: Sequence[HoldoutItem], report: Report) -> tuple[HeldOut, ...]:
    prompts = [rendered_prompt(arms.tokenizer, item) for item in items]
    nll, answer = {}, {}
    with report.span("holdout"):
        for arm in arms.arms:
            nll[arm] = nlls(arms, arm, items)
            answer[arm] = generated(arms, arm, prompts, job.answer_max_tokens, BATCH, report.advance)
    return tuple(
        score(
            item,
            {arm: found[at] for arm, found in nll.items()},
            {arm: found[at] for arm, found in answer.items()},
            reference(arms, item),
        )
        for at, item in enumerate(items)
    )


def _probes(job: EvaluatorJob, arms: Arms, report: Report) -> tuple[Probe, ...]:
    with report.span("probes"):
        others = [arm for arm in arms.arms if arm is not Arm.CANDIDATE]
        return probe_answers.measure(arms, others, job.probes, report.advance) if job.probes else ()
