"""How fast the forge trains, against the libraries it is built on."""
