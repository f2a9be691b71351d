"""Decide again after little has changed: only about the records that the change can affect (docs/adr/0014)."""
