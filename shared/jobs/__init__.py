"""Jobs: how trainer and evaluator are described, started, followed and read back."""
