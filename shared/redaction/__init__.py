"""Secrets and personal data in karma: found, then redacted or a reason to hold the record back. Pure: no database, no network."""
