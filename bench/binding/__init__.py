"""`make bench-binding`: adapters of neighbouring seeds, each served in the name of every other one."""
