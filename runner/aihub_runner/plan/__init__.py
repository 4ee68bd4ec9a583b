"""What is missing, and who is who. Pure."""
