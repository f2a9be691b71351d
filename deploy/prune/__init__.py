"""Pruning: what nothing needs and is old enough is removed from the Lab and from the database."""
