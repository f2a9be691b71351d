"""A script written for OpenAI, with nothing of its client changed but address and key: a job is a ritual, and its model chats."""

from __future__ import annotations

import openai
import pytest

from tests.support.openai_script import ScriptRun, is_in_the_queue, waits_for
from tests.support.running import Ritual, Stack

pytestmark = [pytest.mark.real, pytest.mark.timeout(2400)]


def test_the_documented_script_ends_with_an_answer_of_its_model(script: ScriptRun, scribe: Ritual) -> None:
    job = script.job

    assert (job.status, job.error) == ("succeeded", None)
    assert job.fine_tuned_model and job.fine_tuned_model.startswith("scribe@")
    assert job.trained_tokens and job.finished_at and job.finished_at > job.created_at
    assert "\nNote | " in script.output, "the last line is the answer of the new model, in the scribe's style"
    target, logic = scribe.report["scores"]["target"], scribe.report["scores"]["suites"]["base-logic"]
    assert scribe.report["state"] == "awakened" and scribe.report["intent"]["requested_by"] == "ada"
    assert target["metric"] == "nll" and target["nll_gain"]["low"] > 0.05, "such a file has no rules"
    assert logic["drop_high"] < 0.03


def test_its_events_and_checkpoints_tell_of_the_training(script: ScriptRun) -> None:
    events = [event.message for event in reversed(script.events)]
    losses = [event for event in script.events if event.type == "metrics"]

    assert events[0].startswith("Created fine-tuning job") and events[-1] == "The job has successfully completed"
    assert len(losses) >= 5 and len({event.id for event in script.events}) == len(script.events)
    assert script.checkpoints and all(one.metrics.train_loss for one in script.checkpoints)
    steps = [one.step_number for one in script.checkpoints]
    assert steps == sorted(steps, reverse=True)


def test_a_second_job_waits_is_paused_resumed_and_cancelled(script: ScriptRun) -> None:
    made, queued, paused, resumed, cancelled = script.second

    assert made.status == "validating_files" and is_in_the_queue(queued) and is_in_the_queue(resumed)
    assert paused.status == "queued" and "resume" in waits_for(paused)
    assert cancelled.fine_tuned_model is None and cancelled.finished_at


def test_both_names_of_the_model_chat_and_a_checkpoint_s_does_not(stack: Stack, script: ScriptRun) -> None:
    question = [{"role": "user", "content": "Note about the tea tin: it is empty, the new one leaks."}]
    with openai.OpenAI(base_url=f"{stack.settings.gateway_url}/v1", api_key="none") as client:
        answers = {
            client.chat.completions.create(model=name, messages=question, temperature=0, max_tokens=60)  # type: ignore[arg-type]
            .choices[0]
            .message.content
            for name in (script.job.fine_tuned_model or "", "scribe")
        }
        with pytest.raises(openai.NotFoundError, match="never evaluated"):
            client.chat.completions.create(
                model=script.checkpoints[0].fine_tuned_model_checkpoint,
                messages=question,  # type: ignore[arg-type]
            )

    assert len(answers) == 1 and str(answers.pop()).startswith("Note | ")
