"""A hand-written agent over Anthropic's Messages API."""

from __future__ import annotations

from typing import Any

import anthropic

from tools.record_traces.scenario import BALANCE, FINAL_ANSWER, SYSTEM, Run, execute


def anthropic_loop(run: Run, url: str) -> str:
    functions = [each["function"] for each in (BALANCE, FINAL_ANSWER)]
    tools: list[Any] = [
        {"name": each["name"], "description": each["description"], "input_schema": each["parameters"]}
        for each in functions
    ]
    messages: list[Any] = [{"role": "user", "content": run.question}]
    with anthropic.Anthropic(base_url=url.removesuffix("/v1"), api_key="none", max_retries=0) as client:
        while True:
            said = client.messages.create(
                model="scripted",
                max_tokens=100,
                system=SYSTEM,
                messages=messages,
                tools=tools if run.final else tools[:1],
            )
            calls = [block for block in said.content if block.type == "tool_use"]
            if not calls:
                return "".join(block.text for block in said.content if block.type == "text")
            messages.append({"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in calls]})
            results = []
            for call in calls:
                result, failed = execute(call.name, dict(call.input))
                if call.name == "final_answer":
                    return result
                results.append({"type": "tool_result", "tool_use_id": call.id, "content": result, "is_error": failed})
            messages.append({"role": "user", "content": results})
