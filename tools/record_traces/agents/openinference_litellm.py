"""OpenInference for litellm."""

from __future__ import annotations

import litellm
from openinference.instrumentation.litellm import LiteLLMInstrumentor
from opentelemetry.sdk.trace import TracerProvider

from tools.record_traces.chat_loop import chat_loop
from tools.record_traces.scenario import Run, final_answer

FINAL = final_answer()


def instrument(provider: TracerProvider) -> None:
    LiteLLMInstrumentor().instrument(tracer_provider=provider)


def answer(run: Run, url: str) -> str:
    return chat_loop(
        run,
        lambda **asked: litellm.completion(model="openai/scripted", base_url=url, api_key="none", **asked),
    )
