"""One folder per stage of a ritual; services meet on the bus and never import each other."""
