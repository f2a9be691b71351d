"""The evaluator job: measures base and candidate on the same items, in its own process and environment."""
