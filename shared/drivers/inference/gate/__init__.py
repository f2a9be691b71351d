"""The gate before an inference engine: ASGI middleware inside the engine's own process. Standard library only."""
