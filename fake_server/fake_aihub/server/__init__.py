"""How the fake is run: as a program, in a process, in tests."""
