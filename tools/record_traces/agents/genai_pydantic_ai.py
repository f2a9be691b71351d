"""pydantic-ai's own instrumentation: OTel GenAI, content in attributes."""

from __future__ import annotations

from opentelemetry.sdk.trace import TracerProvider
from pydantic_ai import Agent
from pydantic_ai.models.instrumented import InstrumentationSettings

from tools.record_traces.pydantic_agent import FINAL, answer

__all__ = ["FINAL", "answer", "instrument"]


def instrument(provider: TracerProvider) -> None:
    Agent.instrument_all(InstrumentationSettings(tracer_provider=provider))
