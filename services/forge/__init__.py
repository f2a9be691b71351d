"""The forge: trains an adapter from a dataset manifest."""
