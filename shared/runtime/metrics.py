"""Metrics of every service's runtime, in Prometheus' terms. Labels hold closed sets only, never ids."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

FACTS = Counter("soulforge_facts_recorded_total", "Facts recorded about rituals.", ["subject"])
RITUAL_ERRORS = Counter("soulforge_ritual_errors_total", "Errors met while a ritual was worked on.", ["state"])
LOOP_SECONDS = Histogram("soulforge_loop_seconds", "Time of one pass of a background loop.", ["loop"])
LOOP_ERRORS = Counter("soulforge_loop_errors_total", "Passes that ended in an error and are repeated.", ["loop"])
OUTBOX_AGE_SECONDS = Gauge("soulforge_outbox_oldest_seconds", "Age of the oldest message that is not published yet.")
