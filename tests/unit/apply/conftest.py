"""Fixtures of scripted applies."""

from support.scripted import begin as begin
from support.scripted import outside as outside
