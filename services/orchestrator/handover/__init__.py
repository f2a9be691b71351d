"""The hand-over of an anvil: evacuation and restoration, step by step, each step recorded (see design.md)."""
