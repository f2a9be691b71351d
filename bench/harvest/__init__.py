"""`make bench-harvest`: time and memory of a harvest of a large generated karma, with everything on."""
