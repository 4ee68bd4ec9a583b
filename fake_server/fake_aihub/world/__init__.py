"""All remote state and its history."""
