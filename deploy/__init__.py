"""How the house is put up: the command line and the embedded stack."""
