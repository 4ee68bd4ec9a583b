"""State: the SQLite file, its lock, and the lock file for Git."""
