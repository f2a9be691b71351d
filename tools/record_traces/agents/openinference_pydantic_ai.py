"""OpenInference for pydantic-ai: a span processor beside pydantic-ai's own instrumentation."""

from __future__ import annotations

from openinference.instrumentation.pydantic_ai import OpenInferenceSpanProcessor
from opentelemetry.sdk.trace import TracerProvider
from pydantic_ai import Agent
from pydantic_ai.models.instrumented import InstrumentationSettings

from tools.record_traces.pydantic_agent import FINAL, answer

__all__ = ["FINAL", "answer", "instrument"]


def instrument(provider: TracerProvider) -> None:
    provider.add_span_processor(OpenInferenceSpanProcessor())
    Agent.instrument_all(InstrumentationSettings(tracer_provider=provider))
