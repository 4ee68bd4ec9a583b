"""All remote state, and what happened to it."""
