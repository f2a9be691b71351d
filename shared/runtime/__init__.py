"""Runtime of a service process: start, background loops, health, metrics, traces."""
