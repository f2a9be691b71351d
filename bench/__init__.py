"""Measurements that print ratios against a baseline of the same run. Never part of the tests: machines are shared and noisy."""
