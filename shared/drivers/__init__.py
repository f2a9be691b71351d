"""How the outside is reached: a port and one file per driver."""
