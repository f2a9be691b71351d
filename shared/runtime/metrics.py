"""What every service counts, in Prometheus' terms. Labels hold closed sets only: never ids."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

HEARD = Counter("soulforge_messages_heard_total", "Messages handled.", ["subject"])
DEAD = Counter("soulforge_dead_letters_total", "Messages kept as dead letters.", ["subject"])
STATED = Counter("soulforge_facts_stated_total", "Facts stated about rituals.", ["subject"])
RECONCILE_SECONDS = Histogram("soulforge_reconcile_seconds", "Time of one look at rows and the real world.")
RECONCILE_ERRORS = Counter("soulforge_reconcile_errors_total", "Looks that ended in an error and will be repeated.")
OUTBOX_AGE_SECONDS = Gauge("soulforge_outbox_oldest_seconds", "Age of the oldest thing not yet said.")
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
