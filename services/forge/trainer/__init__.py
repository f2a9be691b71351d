"""The trainer job: a manifest and a base model become an adapter. Runs alone, in the environment with torch."""
