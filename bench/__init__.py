"""Benchmarks that print ratios to a baseline of the same run. Not part of the tests: machines are shared and noisy."""
