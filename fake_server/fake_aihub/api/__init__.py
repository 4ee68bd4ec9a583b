"""The ASGI application and its handlers."""
