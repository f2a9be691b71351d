"""Storage: PostgreSQL, the Lab and Crypt on disk, digests and base models."""
