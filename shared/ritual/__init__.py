"""State of rituals: ledger, lease of the anvil, attempts."""
