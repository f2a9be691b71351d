"""dataset manifest → adapter."""
