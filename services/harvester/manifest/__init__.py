"""Admitted records become files: a manifest to train on and a sealed holdout, each named by its digest."""
