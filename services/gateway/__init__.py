"""The gateway: one OpenAI-compatible address for every base, persona and version."""
