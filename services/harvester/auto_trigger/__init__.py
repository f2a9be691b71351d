"""The automatic trigger: the harvester asks for a ritual by itself once a persona's new karma weighs enough."""
