"""OpenLLMetry (0.53 and later, with `gen_ai.input.messages`) for the anthropic client."""

from __future__ import annotations

from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor
from opentelemetry.sdk.trace import TracerProvider

from tools.record_traces.anthropic_loop import anthropic_loop as answer
from tools.record_traces.scenario import final_answer

__all__ = ["FINAL", "answer", "instrument"]
FINAL = final_answer()


def instrument(provider: TracerProvider) -> None:
    AnthropicInstrumentor().instrument(tracer_provider=provider)
