"""`python -m aihub_runner`."""

from aihub_runner.cli.main import main

main()
