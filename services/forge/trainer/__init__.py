"""The trainer job: trains an adapter from a manifest and a base model, in its own process and environment with torch."""
