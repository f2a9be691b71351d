"""OpenInference for openai-agents, over the Responses API."""

from __future__ import annotations

from agents import OpenAIResponsesModel

from tools.record_traces.agents import openinference_openai_agents as chat
from tools.record_traces.agents.openinference_openai_agents import FINAL, answer, instrument

__all__ = ["FINAL", "answer", "instrument"]
chat.MODEL = OpenAIResponsesModel
