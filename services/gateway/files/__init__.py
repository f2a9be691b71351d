"""`/v1/files`: files of examples that a client uploads for fine-tuning, checked as the import checks them."""
