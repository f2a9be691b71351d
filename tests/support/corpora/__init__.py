"""Seeded material to measure by: every sample says what is planted in it."""
