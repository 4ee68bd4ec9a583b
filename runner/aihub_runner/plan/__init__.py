"""Plan what is missing, and compute identities. Pure."""
