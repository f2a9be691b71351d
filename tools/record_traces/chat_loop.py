"""A hand-written agent over OpenAI's chat API: what a user of the bare client, or of litellm, writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tools.record_traces.scenario import BALANCE, FINAL_ANSWER, SYSTEM, Run, execute


def chat_loop(run: Run, complete: Callable[..., Any]) -> str:
    """The answer; `complete` takes `messages` and `tools` and returns a chat completion."""
    messages: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": run.question}]
    tools = [BALANCE, FINAL_ANSWER] if run.final else [BALANCE]
    while True:
        said = complete(messages=messages, tools=tools).choices[0].message
        if not said.tool_calls:
            return str(said.content)
        messages.append(said.model_dump(exclude_none=True))
        for call in said.tool_calls:
            result, _ = execute(call.function.name, call.function.arguments)
            if call.function.name == "final_answer":
                return result
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
