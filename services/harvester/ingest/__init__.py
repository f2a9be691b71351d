"""Take karma in: from files and messages, from a view over another table, and consent that is withdrawn."""
