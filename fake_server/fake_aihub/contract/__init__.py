"""The API as documented, and the source of each behaviour."""
