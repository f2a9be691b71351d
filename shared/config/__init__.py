"""`soulforge.toml`: what stands in the house, and how the anvil is shared."""
