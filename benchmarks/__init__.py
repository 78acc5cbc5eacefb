"""How fast the gateway is, measured beside what it could be compared with. Run by `scripts/bench`."""
