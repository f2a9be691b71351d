"""Files of karma: read as streams, in any known format, and stored."""
