"""OpenInference for langchain: `create_agent`."""

from __future__ import annotations

from openinference.instrumentation.langchain import LangChainInstrumentor
from opentelemetry.sdk.trace import TracerProvider

from tools.record_traces.langchain_agent import FINAL, answer

__all__ = ["FINAL", "answer", "instrument"]


def instrument(provider: TracerProvider) -> None:
    LangChainInstrumentor().instrument(tracer_provider=provider)
