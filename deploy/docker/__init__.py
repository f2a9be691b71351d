"""Deployment with a container engine: the base image, and the proxy that restricts the engine's socket."""
