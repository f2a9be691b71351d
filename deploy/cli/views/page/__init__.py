"""The report of a ritual as files: a page that needs nothing beside it, a model card, and their drawings."""
