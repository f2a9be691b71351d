"""What replay saves of the base's own abilities, and what it costs."""
