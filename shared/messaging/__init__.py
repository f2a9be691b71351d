"""Messaging: the bus, its streams and consumers, the outbox and dead letters."""
