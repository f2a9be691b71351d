"""Admit records: which are used, on which side of the split, and why the others are not."""
