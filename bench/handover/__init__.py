"""`make bench-handover`: evacuation and restoration against a bare stop and start of the same engine."""
