"""Deployment: the command line, the embedded stack, and what containers need."""
