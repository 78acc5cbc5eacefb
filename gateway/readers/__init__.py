"""Readers with a stored position: the changes of a project are sent to them, in order, at least once.

May import: access, changes, files, maintenance, pace, trusted_clock, watch, wire, storage.
Names for others: `delivery.Deliveries`, `registry.Registry`, `outside.Outside`, `vapid.OwnKey`.
"""
