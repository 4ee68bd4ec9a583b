"""The controls of the fake, and what you can observe of it."""
