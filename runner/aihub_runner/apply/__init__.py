"""Apply a spec: work out what is missing, do it, and never pay for it twice."""
