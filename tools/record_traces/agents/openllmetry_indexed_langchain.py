"""OpenLLMetry before 0.53 for langchain: `create_agent`: indexed attributes (`gen_ai.prompt.0.content`)."""

from __future__ import annotations

from tools.record_traces.agents.openllmetry_langchain import FINAL, answer, instrument

__all__ = ["FINAL", "answer", "instrument"]
