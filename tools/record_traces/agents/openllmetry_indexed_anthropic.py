"""OpenLLMetry before 0.53 for the anthropic client: indexed attributes, content blocks as JSON."""

from __future__ import annotations

from tools.record_traces.agents.openllmetry_anthropic import FINAL, answer, instrument

__all__ = ["FINAL", "answer", "instrument"]
