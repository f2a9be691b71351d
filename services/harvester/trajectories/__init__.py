"""Golden paths: the conversation that led to a verified outcome, rebuilt from the spans of its trace, dead ends pruned."""
