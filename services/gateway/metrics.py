"""Metrics of the gateway, in Prometheus' terms. `served` is a persona or a base that the gateway knows, or empty."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

REQUESTS = Counter("soulforge_gateway_requests_total", "Requests by how they ended.", ["served", "outcome"])
TOKENS = Counter("soulforge_gateway_tokens_total", "Tokens that engines reported as used.", ["served", "kind"])
IN_FLIGHT = Gauge("soulforge_gateway_in_flight", "Requests that an engine works on.", ["rune"])
WAITING = Gauge("soulforge_gateway_waiting", "Requests that wait for an engine.", ["base"])
PORTAL_TOKENS = Gauge("soulforge_gateway_portal_tokens", "Tokens that the portal cost today.")
CONNECTIONS = Gauge("soulforge_gateway_connections", "Open connections of clients.")
TABLE_AGE_SECONDS = Gauge("soulforge_gateway_table_age_seconds", "Age of the table of personas and versions.")
