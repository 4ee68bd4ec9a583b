"""The AI Hub API over HTTP."""
