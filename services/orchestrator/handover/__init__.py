"""The hand-over of an anvil, there and back: evacuation and restoration, step by step, each step on record."""
