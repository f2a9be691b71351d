"""What the commands read from the database; no query writes."""
