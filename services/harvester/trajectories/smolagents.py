"""Read smolagents' own messages: it keeps tool calls and their results as text, under roles of its own.

Forms: https://github.com/huggingface/smolagents/blob/v1.26.0/src/smolagents/memory.py (ActionStep.to_messages)
"""

from __future__ import annotations

import ast
from typing import Any

from services.harvester.trajectories.messages import FailedResult, tool_call
from services.harvester.trajectories.spans import NoPathError
from shared.contracts.karma import LARGEST_RECORD, ChatMessage

CALL, RESULT = "tool-call", "tool-response"
CALLING, OBSERVED, FAILED = "Calling tools:\n", "Observation:\n", "Error:\n"
INTERPRETER = "python_interpreter"  # what CodeAgent, which writes its calls as code, records as its tool


def chat_message(role: str, text: str) -> ChatMessage:
    """A message under one of smolagents' roles; the result of several calls is one text."""
    if role == CALL:
        return ChatMessage(role="assistant", tool_calls=tuple(_call(each) for each in _calls(text)))
    kind = FailedResult if text.startswith(FAILED) else ChatMessage
    return kind(role="tool", content=text.removeprefix(OBSERVED))


def _calls(text: str) -> list[Any]:
    if len(text) > LARGEST_RECORD:  # ast takes a hundred times the memory of what it reads
        raise NoPathError("the tool calls of a smolagents step are longer than a record may be")
    try:
        found = ast.literal_eval(text.removeprefix(CALLING))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, list) or not text.startswith(CALLING):
        raise NoPathError("the tool calls of a smolagents step cannot be read")
    return found


def _call(call: Any) -> dict[str, Any]:
    function = call["function"]
    if function["name"] == INTERPRETER:
        raise NoPathError("the agent writes its tool calls as code (smolagents CodeAgent), which is no tool call")
    return tool_call(call.get("id"), function["name"], function.get("arguments"))
