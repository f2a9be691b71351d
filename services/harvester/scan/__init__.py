"""Scan every record once: its words, its passages, and whether its content keeps it out."""
