"""OpenLLMetry before 0.53 for the openai client: indexed attributes (`gen_ai.prompt.0.content`)."""

from __future__ import annotations

from tools.record_traces.agents.openllmetry_openai import FINAL, answer, instrument

__all__ = ["FINAL", "answer", "instrument"]
