"""Processes of this machine: their identity, process trees, and the files that record them."""
