"""The local files that a spec selects."""
