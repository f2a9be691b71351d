"""When a waiting ritual may take the anvil (its tipping point), as pure functions of what was measured."""
