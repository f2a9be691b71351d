"""What this project's HTTP servers (ASGI) answer with, and which requests of web pages they refuse."""
