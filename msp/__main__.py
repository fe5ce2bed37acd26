"""`python -m msp` is the `msp` command."""

from msp.console import main

main()
