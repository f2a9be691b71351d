"""Embeddings of karma: the words of a record as a vector that other records are compared with."""
