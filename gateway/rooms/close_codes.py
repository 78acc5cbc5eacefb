"""The close codes with which the gateway ends a WebSocket of a room."""

RESTART, TRY_LATER = 1012, 1013
"""Clients reconnect after these codes."""

INVALID_PATH, UNAUTHENTICATED, FORBIDDEN, FILE_DELETED, TOO_LARGE, INVALID_UPDATE = 4400, 4401, 4403, 4404, 4413, 4422
"""Stock providers do not reconnect after 4400 to 4499. After any other code they resend the same message for ever."""

REASONS = {
    0: "client",
    RESTART: "restart",
    TRY_LATER: "try_later",
    INVALID_PATH: "invalid_path",
    UNAUTHENTICATED: "unauthenticated",
    FORBIDDEN: "forbidden",
    FILE_DELETED: "file_deleted",
    TOO_LARGE: "too_large",
    INVALID_UPDATE: "invalid_update",
}
"""What metrics call the close codes of the gateway; 0: the client left."""
