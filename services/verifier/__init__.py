"""adapter → verdict."""
