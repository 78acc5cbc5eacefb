"""`python -m gateway` is `yjs-gateway`."""

from gateway.cli import main

main()
