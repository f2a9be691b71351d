"""What an answer rests on must be in its path: why a conversation read from a trace may not be trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice

from services.harvester.trajectories.failing import result_failed
from services.harvester.trajectories.model_calls import inputs
from services.harvester.trajectories.outcome import is_answering
from services.harvester.trajectories.spans import NoPathError, Trace
from services.harvester.trajectories.tool_runs import result
from services.harvester.trajectories.turns import Turn

LABELLED = re.compile(r"[\w ()\[\]-]{1,40}:\s*(.*)", re.DOTALL)  # `Result: 4200`
WRAPPED = 1000  # results that are looked for in the user's words
BY_NO_CHANCE = 24  # letters
AROUND = 40  # letters of a label, a tag or a fence around a result
OBSERVATION = re.compile("Observation: ?")


def check_grounds(story: Sequence[Turn], trace: Trace) -> None:
    """Raise NoPathError where the conversation lacks something that its answer rests on. The calls are judged."""
    for turn in story:
        _check_results(turn)
    _check_question(story)
    _check_words(story, trace)


def _check_results(turn: Turn) -> None:
    if turn.message.role == "tool" and not result_failed(turn.message):
        raise NoPathError("a tool's result in the trace answers no recorded call")
    for call in turn.calls:
        if call.good and not (call.name and isinstance(call.arguments, dict)):
            raise NoPathError("a tool call in the trace has no name, or arguments that are no JSON object")
        if call.good and call.result is None:
            raise NoPathError("a tool call in the trace has no recorded result")
        if call.good and call.result and not call.result.content and call.runner and result(call.runner):
            raise NoPathError("a tool's result in the trace is empty: its words were not recorded")


def _check_question(story: Sequence[Turn]) -> None:
    asked = [index for index, turn in enumerate(story) if turn.message.role == "user"]
    if not asked:
        raise NoPathError("the model call that gave the answer was asked by no user message")
    later = story[asked[-1] :]
    calls = [call for turn in later for call in turn.calls if not is_answering(call.name)]
    if (calls or any(turn.message.role == "tool" for turn in later)) and not any(call.good for call in calls):
        # Without them the answer would rest on nothing, and teach to answer so.
        raise NoPathError("every tool call that the answer could rest on failed")


def _check_words(story: Sequence[Turn], trace: Trace) -> None:
    """Some agents hand a tool's result to the model as if the user had said it, after a label or within a transcript."""
    first = min(span.ended_at for span in trace.models)
    asked = {message.content for message in inputs(trace.models[0]) if message.role == "user"}
    ran = [span for span in trace.spans if span.kind == "TOOL" and span.started_at >= first]
    returned = {result(span).strip() for span in ran} - {""}
    observed = tuple(" ".join(each.split()) for each in returned)
    for turn in story:
        words = (turn.message.content or "").strip()
        labelled = LABELLED.fullmatch(words)
        said = {words, labelled[1].strip() if labelled else ""}
        later = turn.message.role == "user" and turn.message.content not in asked
        if (turn.message.role == "user" and (said & returned or _transcribes(words, observed))) or (
            later and any(_wraps(words, each) for each in islice(returned, WRAPPED))
        ):
            raise NoPathError("a tool's result in the trace is recorded as the user's words")


def _wraps(words: str, returned: str) -> bool:
    """Whether the words are this result with little around it, or hold it where it is too long to be there by chance."""
    if returned not in words:
        return False
    if len(returned) >= BY_NO_CHANCE:
        return True
    around = re.sub(rf"(?<!\w){re.escape(returned)}(?!\w)", "", words, count=1)
    return len(around) < len(words) and len(around) <= AROUND and "?" not in around


def _transcribes(words: str, observed: tuple[str, ...]) -> bool:
    """Whether the words hold a transcript in the manner of ReAct, with one of these results in it."""
    plain = " ".join(words.split())
    return any(plain.startswith(observed, match.end()) for match in OBSERVATION.finditer(plain))
