"""OpenTelemetry's own instrumentation of the openai client: OTel GenAI, content in attributes."""

from __future__ import annotations

import os

os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental"  # noqa: TID251 - the package reads it
os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "span_only"  # noqa: TID251 - the package reads it

import openai
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor
from opentelemetry.sdk.trace import TracerProvider

from tools.record_traces.chat_loop import chat_loop
from tools.record_traces.scenario import Run, final_answer

FINAL = final_answer()


def instrument(provider: TracerProvider) -> None:
    OpenAIInstrumentor().instrument(tracer_provider=provider)


def answer(run: Run, url: str) -> str:
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        return chat_loop(run, lambda **asked: client.chat.completions.create(model="scripted", **asked))
