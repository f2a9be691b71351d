"""What the gateway costs: against the engine itself, and against an upstream that costs nothing."""
