"""Give records of vectors.karma the golden path of their trace, read from Phoenix."""
