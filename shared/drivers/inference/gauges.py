"""vLLM's own figures: its metrics in Prometheus format, summed over its engines."""

from __future__ import annotations

from collections import Counter

from prometheus_client.parser import text_string_to_metric_families

from shared.drivers.inference.port import InferenceError

RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
FINISHED = "vllm:request_success_total"


def read_gauges(text: str) -> Counter[str]:
    """The three figures by name. Raises InferenceError where one is missing: unknown is not zero."""
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(_lines_of_interest(text)):
        for sample in family.samples:
            found[sample.name] += int(sample.value)
    if missing := {RUNNING, WAITING, FINISHED} - found.keys():
        raise InferenceError(
            f"the engine's metrics lack {', '.join(sorted(missing))}: start it without --disable-log-stats"
        )
    return found


def _lines_of_interest(text: str) -> str:
    """The page has hundreds of lines, and a drain reads it ten times a second."""
    return "\n".join(
        line for line in text.splitlines() if line.startswith((f"{RUNNING}{{", f"{WAITING}{{", f"{FINISHED}{{"))
    )
