"""Metrics of consumed messages, in Prometheus' terms. Labels hold closed sets only, never ids."""

from __future__ import annotations

from prometheus_client import Counter

HANDLED = Counter("soulforge_messages_handled_total", "Messages handled.", ["subject"])
DEAD_LETTERS = Counter("soulforge_dead_letters_total", "Messages kept as dead letters.", ["subject"])
