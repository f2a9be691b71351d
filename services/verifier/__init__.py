"""The verifier: evaluates an adapter and gives the verdict."""
