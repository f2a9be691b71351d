"""intent → dataset manifest."""
