"""The services, one folder per stage of a ritual; they communicate over the bus and never import each other."""
