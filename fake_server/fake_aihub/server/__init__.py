"""Run the fake: as a program, inside a process, or in tests."""
