"""OpenInference for the openai client, chat completions."""

from __future__ import annotations

import openai
from openinference.instrumentation.openai import OpenAIInstrumentor
from opentelemetry.sdk.trace import TracerProvider

from tools.record_traces.chat_loop import chat_loop
from tools.record_traces.scenario import Run, final_answer

FINAL = final_answer()


def instrument(provider: TracerProvider) -> None:
    OpenAIInstrumentor().instrument(tracer_provider=provider)


def answer(run: Run, url: str) -> str:
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        return chat_loop(run, lambda **asked: client.chat.completions.create(model="scripted", **asked))
