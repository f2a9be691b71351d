"""`soulforge.toml`: the parts of an installation, and how the anvil is shared."""
