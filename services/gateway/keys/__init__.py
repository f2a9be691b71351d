"""The keys of clients: who sends a request, and what it may do."""
