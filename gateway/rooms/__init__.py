"""A door: y-websocket rooms over files.

May import: access, asgi, files, presence, wire, watch, workers, yjs, storage.
Names for others: `rooms.Rooms`, `endpoint.RoomEndpoint`.
"""
