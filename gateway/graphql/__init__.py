"""A door, GraphQL: queries, mutations, and subscriptions that send something only when a selected field has changed.

Built on Strawberry, an extra, which is imported at the first request only.

May import: everything below.
Names for others: `door.GraphQLDoor`, `services.Services`.
"""
