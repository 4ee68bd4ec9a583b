"""Check which promises a target keeps, the fake or a real AI Hub. Independent of the fake's code."""
