"""The registry: registers verified adapters as versions and serves them under their aliases."""
