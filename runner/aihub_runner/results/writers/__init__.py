"""The formats that a table can be written in."""
