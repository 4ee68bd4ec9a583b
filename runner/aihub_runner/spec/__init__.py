"""The spec: which documents to process, with which app."""
