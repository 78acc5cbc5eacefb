"""A door: rooms over files, in the protocols of y-websocket and of Hocuspocus.

May import: access, asgi, files, pace, presence, shared_turn, wire, watch, workers, yjs, storage.
Names for others: `rooms.Rooms`, `endpoint.RoomEndpoint`,
`hocuspocus.HocuspocusEndpoint`.
"""
