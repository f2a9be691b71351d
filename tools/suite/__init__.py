"""The generator of the base-logic suite, and the measurement of its kinds on a base."""
