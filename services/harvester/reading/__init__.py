"""Read each record once: what admission needs to know of its content, and nothing of the content itself."""
