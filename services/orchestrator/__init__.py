"""who has the anvil: evacuation, lease, restoration."""
