"""The media types of request and response bodies."""

OCTETS = "application/octet-stream"
TEXT = "text/plain"
JSON = "application/json"
EVENTS = "text/event-stream"
MSGPACK = "application/msgpack"
NDJSON = "application/x-ndjson"
