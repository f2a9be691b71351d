"""Record agents: `python -m tools.record_traces.record AGENT ...`, or those that a requirements file lists."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tools.record_traces.model import scripted_model
from tools.record_traces.scenario import Run, runs

HERE = Path(__file__).parent
RECORDINGS = HERE.parent.parent / "tests" / "support" / "traces"
LONGEST = 300  # characters of an attribute that only repeats the others
REPEATS = (
    "input.value",
    "output.value",
    "model_request_parameters",
    "pydantic_ai.all_messages",
    "logfire.json_schema",
    "traceloop.entity.input",
    "traceloop.entity.output",
    "gen_ai.task.input",
    "gen_ai.task.output",
)
DROPPED = re.compile(
    r"exception\.stacktrace|server\.port|graph\.node\.id|metadata|traceloop\.association\.properties\..*"
)
# Of the machine on which it was recorded: its paths, its ports.
LOCAL = (
    (re.compile(r"http://127\.0\.0\.1:\d+"), "http://model.example"),
    (re.compile(r"(/[\w.-]+)+/(?=site-packages|tools/record_traces)"), ""),
)


def main(wanted: Sequence[str]) -> int:
    """Each agent in a process of its own: an instrumentation changes the packages that it observes."""
    agents = [agent for each in wanted for agent in (_listed(Path(each)) if each.endswith(".txt") else [each])]
    failed = 0
    for agent in agents:
        command = [sys.executable, "-m", "tools.record_traces.record", "--one", agent]
        failed += subprocess.run(command, check=False).returncode != 0
    return failed


def _listed(requirements: Path) -> list[str]:
    """The agents that the comment in a requirements file names."""
    lines = requirements.read_text(encoding="utf-8").splitlines()
    return [agent for line in lines if line.startswith("# agents:") for agent in line.removeprefix("# agents:").split()]


def record(name: str) -> None:
    agent = import_module(f"tools.record_traces.agents.{name}")
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({}), span_limits=SpanLimits(max_attributes=10_000))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    agent.instrument(provider)
    for run in runs(agent.FINAL, getattr(agent, "ALWAYS_FINAL", False)):
        with scripted_model(run.script) as url, provider.get_tracer("app").start_as_current_span("request"):
            answer = agent.answer(run, url)
        provider.force_flush()
        _write(name, run, answer, exporter.get_finished_spans())
        exporter.clear()


def _write(name: str, run: Run, answer: str, spans: Sequence[ReadableSpan]) -> None:
    traces = {span.context.trace_id for span in spans if span.context}
    if len(traces) != 1:
        raise RuntimeError(f"{name} {run.name}: the spans are in {len(traces)} traces")
    request = MessageToDict(encode_spans(spans))
    file = RECORDINGS / name / f"{run.name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    recorded = {"question": run.question, "answer": answer, "request": _scrubbed(request)}
    file.write_text(json.dumps(recorded, ensure_ascii=False, indent=None) + "\n", encoding="utf-8")
    print(f"{name} {run.name}: {len(spans)} spans, {file.stat().st_size} bytes, {answer!r}")


def _scrubbed(value: Any) -> Any:
    if isinstance(value, list):
        return [_scrubbed(each) for each in value if not _dropped(each)]
    if isinstance(value, dict):
        cut = LONGEST if value.get("key") in REPEATS else None
        return {name: _cut(_scrubbed(each), cut) for name, each in value.items()}
    if isinstance(value, str):
        for pattern, stand_in in LOCAL:
            value = pattern.sub(stand_in, value)
    return value


def _dropped(value: Any) -> bool:
    return isinstance(value, dict) and DROPPED.fullmatch(value.get("key", "")) is not None


def _cut(value: Any, longest: int | None) -> Any:
    if longest and isinstance(value, dict) and isinstance(value.get("stringValue"), str):
        return {"stringValue": value["stringValue"][:longest]}
    return value


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        record(sys.argv[2])
    else:
        sys.exit(main(sys.argv[1:]))
