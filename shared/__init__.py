"""The common language and tools of the services; knows no service."""
