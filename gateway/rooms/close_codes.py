"""Why the gateway ends a WebSocket of a room."""

RESTART, TRY_LATER = 1012, 1013
"""Clients come back."""

INVALID_PATH, UNAUTHENTICATED, FORBIDDEN, FILE_DELETED, TOO_LARGE, INVALID_UPDATE = 4400, 4401, 4403, 4404, 4413, 4422
"""Stock providers do not come back after 4400 to 4499. After any other code they send the same again, for ever."""
