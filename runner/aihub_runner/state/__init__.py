"""What is remembered: the state file, its lock, and the lock file for Git."""
