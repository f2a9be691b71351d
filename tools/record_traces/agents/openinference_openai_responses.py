"""OpenInference for the openai client, Responses API; the client keeps the conversation."""

from __future__ import annotations

from typing import Any

import openai
from openinference.instrumentation.openai import OpenAIInstrumentor
from opentelemetry.sdk.trace import TracerProvider

from tools.record_traces.scenario import BALANCE, FINAL_ANSWER, SYSTEM, Run, execute, final_answer

FINAL = final_answer()


def instrument(provider: TracerProvider) -> None:
    OpenAIInstrumentor().instrument(tracer_provider=provider)


def answer(run: Run, url: str) -> str:
    tools: list[Any] = [{"type": "function", **each["function"]} for each in (BALANCE, FINAL_ANSWER)]
    items: list[Any] = [{"role": "user", "content": run.question}]
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        while True:
            response = client.responses.create(
                model="scripted", instructions=SYSTEM, input=items, tools=tools if run.final else tools[:1]
            )
            calls = [item for item in response.output if item.type == "function_call"]
            if not calls:
                return response.output_text
            items += [item.model_dump(exclude_none=True) for item in calls]
            for call in calls:
                result, _ = execute(call.name, call.arguments)
                if call.name == "final_answer":
                    return result
                items.append({"type": "function_call_output", "call_id": call.call_id, "output": result})
