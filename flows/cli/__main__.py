"""`python -m flows.cli` is `shipway`."""

from flows.cli.app import main

main()
