"""Messages between services: one file per stage, plus the values they share."""
