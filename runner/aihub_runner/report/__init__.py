"""The status of a job, in numbers, words and pages."""
