"""Fixtures of scripted applies."""

from support.scripted import outside as outside
