"""This machine: clocks, streams, signals, resource limits, installed packages."""
