"""What holds for all tests: examples are the same each time, and no clock says whether one has passed."""

from hypothesis import settings

settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")
