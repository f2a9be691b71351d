"""Accelerators: how much device memory is used, and by whom."""
