"""Who may do what: credentials, the grants that they prove, and the one guard that every endpoint asks.

May import `gateway.wire.problems` and `storage`; knows neither HTTP nor Yjs. Its public names: `Access` (a subject and
what it may do), `Guard` (turns a credential into an `Access`), `View` (what of one project a subject sees).
"""
