"""With a container engine: the base image, and the proxy that narrows the engine's socket."""
