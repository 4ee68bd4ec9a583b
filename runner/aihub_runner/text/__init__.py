"""Text: what is foreign is made harmless, JSON, and what two texts have in common."""
