"""How a job stands, in numbers, words and pages."""
