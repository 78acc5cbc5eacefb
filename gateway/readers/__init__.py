"""Readers with a place of their own: what happens in a project is sent to them, in order, at least once.

May import: access, changes, files, maintenance, watch, wire, storage.
Names for others: `delivery.Deliveries`, `registry.Registry`, `outside.Outside`, `web_push.VapidKey`.
"""
