"""The spec: what shall be processed."""
