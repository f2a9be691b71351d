"""Processes of this machine: which one a record means, the tree below it, and its end."""
