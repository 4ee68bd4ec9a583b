"""`python -m fake_aihub`."""

from fake_aihub.server.cli import main

main()
