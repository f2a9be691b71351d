"""`make bench-harvest`: a large generated karma to a finished manifest, against PostgreSQL's own COPY of the same rows."""
