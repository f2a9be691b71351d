"""The embedded stack, without Docker: nats-server, PostgreSQL, Phoenix, five services and a rune on one machine."""
