"""`python -m tailrisk.cli`."""

from tailrisk.cli import main

main()
