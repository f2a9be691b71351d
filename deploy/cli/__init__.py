"""The `soulforge` command."""
