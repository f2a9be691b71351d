"""When new karma weighs enough, the harvester asks for a ritual by itself."""
