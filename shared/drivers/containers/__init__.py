"""Containers: isolated processes with a name, labels and limits."""
