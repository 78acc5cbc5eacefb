"""The doors: parse, ask, answer. `operations` of each module are what the router and `/openapi.json` are made of."""
