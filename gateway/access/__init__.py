"""Who may do what: credentials, the grants that they prove, and the one guard that every endpoint asks.

Knows neither HTTP nor Yjs.

May import: shared_turn, trusted_clock, wire, storage.
Names for others: `access.Access`, `guard.Guard`, `grants.View`.
"""
