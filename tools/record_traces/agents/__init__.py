"""One file per instrumentation: how its user would build and trace an agent that keeps accounts."""
