"""The commands, one file a group: what each takes, and what it does in order."""
