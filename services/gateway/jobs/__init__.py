"""OpenAI's fine-tuning jobs: each is one ritual, whose intent has the job's id."""
