"""A door for GraphQL: queries, mutations, and subscriptions that send only when a selected field has changed.

Built on Strawberry, an optional dependency that is imported at the first request only.

May import: everything below.
Names for others: `door.GraphQLDoor`, `services.Services`.
"""
