"""Which promises a target keeps, the fake or a real AI Hub. Knows nothing of how the fake is made."""
