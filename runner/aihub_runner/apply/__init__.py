"""Do what a spec asks for, and nothing twice."""
