"""Embeddings of karma: what a record says, as a vector that other records are compared with."""
