"""Text: escaping text from outside, JSON, and comparing texts."""
