"""No Docker: nats-server, PostgreSQL, Phoenix, five services and a rune, supervised on one machine."""
