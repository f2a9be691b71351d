"""Metrics of the anvils and their hand-overs, in Prometheus' terms. Labels hold closed sets only, never ids."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

SERVING = Gauge("soulforge_anvil_serving", "1 while the anvil's inference answers.", ["anvil"])
SECONDS_WITHOUT_INFERENCE = Counter(
    "soulforge_seconds_without_inference_total", "Time the anvil did not answer.", ["anvil"]
)
CONTAINED = Gauge(
    "soulforge_anvil_contained", "1 while the anvil is kept from rituals because it does not serve.", ["anvil"]
)
HAND_OVERS = Counter("soulforge_hand_overs_total", "Evacuations by how they ended.", ["anvil", "outcome"])
ABORTED = Counter(
    "soulforge_requests_aborted_total", "Requests ended by an evacuation because the grace was over.", ["anvil"]
)
