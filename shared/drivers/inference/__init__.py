"""Inference engines: health, adapters, completions."""
