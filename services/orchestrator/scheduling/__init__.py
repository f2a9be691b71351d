"""When a waiting ritual may take the anvil: the tipping point, as pure functions of what was measured."""
