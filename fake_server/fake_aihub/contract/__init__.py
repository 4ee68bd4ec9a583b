"""The API as it is documented, and where each behaviour is known from."""
