"""A door: y-websocket rooms over files.

It imports `gateway.files`, `gateway.yjs`, `gateway.wire` and `gateway.asgi`, and no other door. Names for other
folders: `rooms.Rooms`, `endpoint.RoomEndpoint`, `close_codes`.
"""
