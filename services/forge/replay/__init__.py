"""Replay: general prompts, and the base's own answers to them, by which a persona is learned without forgetting."""
