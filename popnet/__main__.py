"""`python -m popnet`: the same as `popnet`."""

from popnet.cli import main

main()
