"""verdict → version, and which version serves."""
