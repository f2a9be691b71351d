"""The orchestrator: leases anvils to rituals; evacuation before, restoration after."""
