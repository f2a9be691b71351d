"""Strands with the latest conventions: content in span events `gen_ai.client.inference.operation.details`."""

from __future__ import annotations

import os

os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental"  # noqa: TID251 - the package reads it

from tools.record_traces.agents.genai_strands_events import FINAL, answer, instrument

__all__ = ["FINAL", "answer", "instrument"]
