"""Every setting of the gateway: its default, its meaning; the environment variable `GATEWAY_<NAME>` sets it."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gateway.connections import BodyLimits, ConnectionLimits
from gateway.retention import RetentionPolicy

MEBIBYTE = 2**20

_SQLITE_URL = "sqlite:///"


class Settings(BaseSettings):
    """What can be set. Sizes are bytes."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="The address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    database: str = Field(
        "sqlite:///yjs-gateway.db",
        description="Where the data is: `sqlite:///file.db` (relative) or `sqlite:////folder/file.db` (absolute).",
    )
    same_database: bool = Field(
        False, description="Whether a database that seems to be a copy, or of an earlier time, goes on as the original."
    )
    hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Names by which the gateway is called, separated by commas; `*` for all. Loopback, and the address "
        "that a connection came to, are always allowed.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins whose pages may call the gateway, separated by commas; `*` for all."
    )
    demo: bool = Field(True, description="Whether the demo application is served at `/`.")
    body_limit: int = Field(16 * MEBIBYTE, ge=1024, description="The largest body of a request.")
    bodies_bytes: int = Field(
        256 * MEBIBYTE, ge=1024, description="The most bytes that all bodies which are coming in may hold together."
    )
    body_seconds: float = Field(
        30.0, gt=0, description="How many seconds a body may pause; on average, it has to come at 1 KiB a second."
    )
    paths_limit: int = Field(10_000, ge=1, description="The most paths in one request.")
    queued_writes: int = Field(10_000, ge=1, description="The most changes that may wait to be written.")
    queued_write_bytes: int = Field(64 * MEBIBYTE, ge=1, description="The most bytes of changes that may wait.")
    document_bytes: int = Field(
        32 * MEBIBYTE, ge=1024, description="The largest size of one document, as a Yjs update of all its content."
    )
    hot_document_bytes: int = Field(
        256 * MEBIBYTE, ge=MEBIBYTE, description="The memory that open documents may take, as estimated."
    )
    connections: int = Field(100_000, ge=1, description="The most connections at once.")
    head_seconds: float = Field(
        30.0, gt=0, description="Within how many seconds the head of a request must be there, from its first byte on."
    )
    keep_alive_seconds: float = Field(
        75.0, gt=0, description="How many seconds a connection may be idle between two requests."
    )
    waiters: int = Field(50_000, ge=0, description="The most requests that may wait or stream at once.")
    project_waiters: int = Field(20_000, ge=0, description="The most of them on one project.")
    waiting_bytes: int = Field(
        64 * MEBIBYTE, ge=0, description="The most bytes that waiting requests may keep of their bodies, in all."
    )
    sync_bytes: int = Field(
        16 * MEBIBYTE, ge=1, description="The most bytes of updates in one answer to a push and pull, whatever it asks."
    )
    stream_heartbeat: float = Field(
        15.0, gt=0, description="After how many silent seconds an event stream sends its cursor alone."
    )
    room_connections: int = Field(10_000, ge=0, description="The most WebSocket connections at once.")
    room_window_ms: int = Field(
        50, ge=0, description="What a room receives within so many milliseconds becomes one version."
    )
    room_queue_bytes: int = Field(
        4 * MEBIBYTE, ge=1024, description="What may wait to be sent to one WebSocket client before it is closed."
    )
    turn_lease: float = Field(
        120.0, gt=0, description="How many seconds a running turn may be silent before it has failed."
    )
    turn_grace: float = Field(
        2.0,
        gt=0,
        description="A result ends a turn after so many silent seconds, unless its sender says where its output ends.",
    )
    prompt_limit: int = Field(MEBIBYTE, ge=1024, description="The largest prompt of a turn.")
    turn_answer_bytes: int = Field(
        32 * MEBIBYTE, ge=1024, description="A longer turn is read in several answers, each with about so many bytes."
    )
    retain_versions: int = Field(0, ge=0, description="The newest so many versions of a file are kept; 0: all.")
    retain_days: float = Field(
        0, ge=0, description="The versions of so many days are kept; 0: all. With both, what either keeps."
    )
    retain_tombstone_days: float = Field(
        0, ge=0, description="For so many days a deleted file is told of and can be restored; 0: for ever."
    )
    retention_interval: float = Field(
        3600.0, gt=0, description="Every so many seconds what need not be kept any more is folded."
    )
    workers: int = Field(
        2, ge=1, description="The most processes for heavy work on documents; comparisons have as many of their own."
    )
    worker_queue: int = Field(64, ge=1, description="The most jobs of either kind that wait for a process.")
    worker_seconds: float = Field(
        30.0, gt=0, description="How many seconds one such job may take before its process is ended."
    )
    shutdown_seconds: int = Field(20, ge=1, description="How long a stopping gateway waits for requests in progress.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least that is logged.")
    log_format: Literal["text", "json"] = Field("text", description="How a line of the log is written.")

    @field_validator("cors_origins", "hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("database")
    @classmethod
    def _check_database(cls, value: str) -> str:
        if not value.startswith(_SQLITE_URL) or value == _SQLITE_URL:
            raise ValueError("a database URL is sqlite:///file.db or sqlite:////folder/file.db")
        return value

    @property
    def connection_limits(self) -> ConnectionLimits:
        """The bounds of connections."""
        return ConnectionLimits(self.connections, self.head_seconds, self.keep_alive_seconds)

    @property
    def body_limits(self) -> BodyLimits:
        """The bounds of bodies that are coming in."""
        return BodyLimits(self.bodies_bytes, self.body_seconds)

    @property
    def retention(self) -> RetentionPolicy:
        """What is kept."""
        return RetentionPolicy(self.retain_versions, self.retain_days, self.retain_tombstone_days)

    @property
    def database_path(self) -> Path:
        """The database file that `database` names."""
        return Path(self.database.removeprefix(_SQLITE_URL))
