"""What an ASGI server that local programs use answers with, and which requests of web pages it refuses."""
