"""Every setting of the gateway: its default, its meaning; the environment variable `GATEWAY_<NAME>` sets it."""

import importlib.util
import ipaddress
from typing import TYPE_CHECKING, Annotated, Literal, Self

from msgspec import Struct
from msgspec.structs import replace
from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gateway.access.rates import RateLimits
from storage import Milliseconds, Retention
from storage.opening import StorageLimits, check_url

if TYPE_CHECKING:
    from gateway.access.jwt import JsonWebTokens

MEBIBYTE = 2**20
_USUAL_RATES = RateLimits(requests=30_000, bytes=512 * MEBIBYTE, connections=1000)
"""Where others than programs of the same machine can connect."""
_LOG_SPACE_BYTES, _LOG_SPACE_SHARE = 4 * MEBIBYTE, 16
"""How much of the write-ahead log is allocated: as much as SQLite makes of it before it writes the log from the
start again (1,000 pages), and at most this share of the log's limit."""
_DAY_MS = 24 * 60 * 60 * 1000


class RetentionPolicy(Struct, frozen=True):
    """What is kept; 0 stands for all, and for ever."""

    versions: int = 0
    """The newest so many versions of each file."""
    days: float = 0
    """The versions of the last so many days. Where both are set, what either keeps is kept."""
    tombstone_days: float = 0
    """For how long a deleted file can be told and restored."""

    @property
    def keeps_all(self) -> bool:
        return not (self.versions or self.days or self.tombstone_days)

    def rule(self, now: int) -> Retention:
        since = Milliseconds(int(now - self.days * _DAY_MS)) if self.days else None
        return Retention(self.versions or None, since)


class ConnectionLimits(Struct, frozen=True):
    """The bounds of connections."""

    connections: int = 100_000
    """How many may be open at once."""
    head_seconds: float = 30.0
    """Within how many seconds the head of a request must be there, from the connection or from its first byte on."""
    pipeline_bytes: int = 16 * 2**10
    """How much of requests behind one that is being answered is read; one read of the socket may bring more."""
    unread_bytes: int = 256 * 2**20
    """How much of all answers may wait for clients to read it."""
    unread_seconds: float = 60.0
    """For how long a client may read nothing of an answer that waits for it."""
    pong_bytes: int = 64 * 2**10
    """How much of answers to pings may wait for a WebSocket client; one read of the socket may bring more."""
    keep_alive_seconds: float = 75.0
    """How long a connection may be idle between two requests. Longer than proxies keep idle connections to their
    servers: the proxy closes first, and no request is lost."""


class BodyLimits(Struct, frozen=True):
    """The bounds of bodies."""

    bytes: int = 256 * 2**20
    """What all bodies that are coming in may hold together."""
    seconds: float = 30.0
    """How long a body may pause, and within which time it has to come apart from what `rate` allows."""
    rate: int = 1024
    """How many bytes a second have to come at least, on average."""


class Settings(BaseSettings):
    """What can be set. Sizes are bytes."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", extra="forbid", frozen=True, hide_input_in_errors=True)

    host: str = Field("127.0.0.1", description="The address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="The port to listen on; `0` picks a free port.")
    database: str = Field(
        "sqlite:///yjs-gateway.db",
        description="The database URL: `sqlite:///file.db` (relative path), `sqlite:////folder/file.db` (absolute "
        "path) or `postgresql://user:password@host:5432/database`.",
    )
    processes: int = Field(
        1,
        ge=1,
        description="Number of gateway processes that share the port; more than one needs PostgreSQL. Limits and "
        "caches are those of one process.",
    )
    database_seconds: float = Field(
        5.0,
        gt=0,
        description="Seconds that a write waits for a PostgreSQL database that does not respond, before it is refused.",
    )
    same_database: bool = Field(
        False,
        description="Treat a database that looks copied or rolled back as the original: keep its cursors and "
        "incarnations.",
    )
    hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Host names that requests may use to reach the gateway, separated by commas; `*` allows "
        "all. Loopback names and the address that a connection was made to are always allowed.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins whose pages may call the gateway from a browser, separated by commas; `*` allows all."
    )
    auth: Literal["auto", "none", "required"] = Field(
        "auto",
        description="Whether requests need a credential; `auto`: they do unless the gateway listens on loopback only.",
    )
    jwt_key: str = Field(
        "",
        repr=False,
        description="Checks the JWTs of the application: a secret of 32 bytes or more, a public key (PEM) or its file.",
    )
    jwt_algorithms: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="The algorithms of JWTs that count, separated by commas; left out, the usual one of the key."
    )
    jwks_url: str = Field("", description="Where the application's public keys are (JWKS), instead of one key.")
    authorize_url: str = Field(
        "", description="Where your application says whose a token or a cookie is, and what that grants."
    )
    jwt_audience: str = Field("", description="The `aud` that a JWT has to name.")
    jwt_issuer: str = Field("", description="The `iss` that a JWT has to name.")
    proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Addresses and networks of reverse proxies, separated by commas: `X-Forwarded-For` names the "
        "clients whose requests they pass on.",
    )
    rate_requests: int | None = Field(
        None,
        ge=0,
        description="Maximum requests per minute of one subject, or of one address without one; ten times as many of "
        "one address in total. `0`: no limit. Left out: 30,000, or no limit if the gateway listens on loopback only.",
    )
    rate_bytes: int | None = Field(
        None,
        ge=0,
        description="Maximum bytes that one subject may write per minute, counted in the same way. `0`: no limit. Left "
        "out: 512 MiB, or no limit if the gateway listens on loopback only.",
    )
    rate_connections: int | None = Field(
        None,
        ge=0,
        description="Maximum WebSockets and event streams of one subject, counted in the same way. `0`: no limit. Left "
        "out: 1,000, or no limit if the gateway listens on loopback only.",
    )
    rate_failures: int = Field(
        600, ge=0, description="Maximum refused credentials per minute from one address; `0`: no limit."
    )
    project_bytes: int = Field(0, ge=0, description="Maximum stored bytes of the files of a project; `0`: no limit.")
    project_files: int = Field(0, ge=0, description="Maximum number of files in a project; `0`: no limit.")
    audit_days: float = Field(365, ge=0, description="Days that the audit is kept; `0` keeps it forever.")
    demo: bool = Field(
        True, description="Serve the demo application at `/`, the API reference at `/docs` and GraphiQL at `/graphiql`."
    )
    mcp: bool = Field(
        False, description="Serve the Model Context Protocol at `/mcp`; requires the extra `mcp` of the package."
    )
    body_limit: int = Field(16 * MEBIBYTE, ge=1024, description="Maximum size of a request body.")
    bodies_bytes: int = Field(
        256 * MEBIBYTE,
        ge=1024,
        description="Maximum bytes of all request bodies in progress, and of what is decoded of them, in total; also "
        "of the unfinished lines of all output of agents, and of all WebSocket messages that are not complete.",
    )
    body_seconds: float = Field(
        30.0,
        gt=0,
        description="Seconds a request body may stall; on average it must arrive at 1 KiB per second or more.",
    )
    paths_limit: int = Field(10_000, ge=1, description="Maximum number of paths in one request.")
    queued_writes: int = Field(10_000, ge=1, description="Maximum number of changes waiting to be written.")
    log_bytes: int = Field(
        4 * 2**30,
        ge=MEBIBYTE,
        description="Maximum size of SQLite's write-ahead log. Beyond it writes are refused while another process "
        "keeps the log from being emptied.",
    )
    queued_write_bytes: int = Field(64 * MEBIBYTE, ge=1, description="Maximum bytes of changes waiting to be written.")
    document_bytes: int = Field(
        32 * MEBIBYTE, ge=1024, description="Maximum size of one document, encoded as a single Yjs update."
    )
    hot_document_bytes: int = Field(
        192 * MEBIBYTE,
        ge=MEBIBYTE,
        description="Estimated memory that open documents, and whole ones to be sent again, may use.",
    )
    connections: int = Field(100_000, ge=1, description="Maximum number of concurrent connections.")
    head_seconds: float = Field(
        30.0, gt=0, description="Seconds in which a request head must arrive, counted from its first byte."
    )
    pipeline_bytes: int = Field(
        16 * 2**10, ge=1024, description="Bytes of pipelined requests that are read while another is being answered."
    )
    unread_bytes: int = Field(
        256 * MEBIBYTE,
        ge=1024,
        description="Maximum bytes of answers that wait for their clients to read them, in total. Beyond it, the "
        "connections whose clients have read nothing for the longest time are closed.",
    )
    unread_seconds: float = Field(
        60.0, gt=0, description="Seconds for which a client may read nothing while an answer waits for it."
    )
    pong_bytes: int = Field(
        64 * 2**10, ge=1024, description="Maximum unsent answers to pings, in bytes per WebSocket client."
    )
    keep_alive_seconds: float = Field(75.0, gt=0, description="Seconds a connection may be idle between two requests.")
    waiters: int = Field(50_000, ge=0, description="Maximum number of concurrent long polls and event streams.")
    project_waiters: int = Field(
        20_000, ge=0, description="Maximum number of concurrent long polls and event streams per project."
    )
    waiting_bytes: int = Field(
        64 * MEBIBYTE,
        ge=0,
        description="Maximum bytes of request bodies that long polls keep while they wait, in total.",
    )
    sync_bytes: int = Field(
        16 * MEBIBYTE,
        ge=1,
        description="Maximum bytes of updates in one `POST P/sync` response, whatever `max_bytes` asks for.",
    )
    stream_heartbeat: float = Field(
        15.0, gt=0, description="Seconds of silence after which an event stream sends a heartbeat with its cursor."
    )
    room_connections: int = Field(10_000, ge=0, description="Maximum number of concurrent WebSocket connections.")
    room_window_ms: int = Field(
        50, ge=0, description="Milliseconds for which a room batches incoming updates into one version."
    )
    room_queue_bytes: int = Field(
        4 * MEBIBYTE,
        ge=1024,
        description="Maximum unsent bytes per WebSocket client; a client that falls further behind is disconnected.",
    )
    turn_lease: float = Field(120.0, gt=0, description="Seconds without output after which a running turn fails.")
    turn_grace: float = Field(
        2.0,
        gt=0,
        description="Seconds of silence after a `result` line that end a turn, unless the sender marks the end "
        "of its output itself.",
    )
    prompt_limit: int = Field(MEBIBYTE, ge=1024, description="Maximum size of a turn's prompt.")
    turn_answer_bytes: int = Field(
        32 * MEBIBYTE,
        ge=1024,
        description="Approximate maximum size of one response when a turn is read; longer turns are paged.",
    )
    hook_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Hosts of webhooks that may have a private address and be reached without TLS, separated by "
        "commas; `*` allows all.",
    )
    push_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Push services that browsers' subscriptions may name, separated by commas. Left out, those of "
        "Chrome, Edge, Firefox and Safari.",
    )
    vapid_key: str = Field(
        "",
        repr=False,
        description="The private key (PEM, P-256) by which push services know the gateway. Left out, one is made "
        "when it is first needed, and kept in the database.",
    )
    push_contact: str = Field(
        "", description="A `mailto:` or `https:` URL of the operator, which push services are told."
    )
    readers: int = Field(10_000, ge=0, description="Maximum number of webhooks and push subscriptions of a project.")
    retain_versions: int = Field(0, ge=0, description="Keep the newest N versions of each file (`0` = keep all).")
    retain_days: float = Field(
        0,
        ge=0,
        description="Keep versions of the last N days (`0` = keep all). A version that either rule keeps is kept.",
    )
    retain_tombstone_days: float = Field(
        0, ge=0, description="Report deleted files, and allow restoring them, for N days (`0` = forever)."
    )
    retention_interval: float = Field(
        3600.0,
        gt=0,
        description="Seconds between two runs of retention, which squashes versions that are no longer kept.",
    )
    workers: int = Field(
        2,
        ge=1,
        description="Maximum number of worker processes for heavy work on documents; diffs use the same number "
        "of processes of their own.",
    )
    worker_queue: int = Field(64, ge=1, description="Maximum number of jobs of each kind waiting for a worker process.")
    worker_seconds: float = Field(30.0, gt=0, description="Seconds a worker job may take before its process is killed.")
    shutdown_seconds: int = Field(20, ge=1, description="Seconds a stopping gateway waits for requests in progress.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Minimum level of log messages: `debug`, `info`, `warning` or `error`."
    )
    log_format: Literal["text", "json"] = Field("text", description="Format of log lines: `text` or `json`.")
    access_log: Literal["off", "errors", "all"] = Field(
        "off",
        description="Requests and WebSockets that are logged, with `X-Request-ID`: `off`, `errors` (answers of 400 and "
        "above) or `all`.",
    )
    tracing: bool = Field(
        False,
        description="Send a span of each request and WebSocket by OpenTelemetry (extra `otel`), as the variables "
        "`OTEL_…` say.",
    )

    @field_validator("cors_origins", "hosts", "proxies", "jwt_algorithms", "hook_hosts", "push_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("proxies")
    @classmethod
    def _check_proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            ipaddress.ip_network(each, strict=False)
        return value

    @field_validator("database")
    @classmethod
    def _check_database(cls, value: str) -> str:
        return check_url(value)

    @field_validator("mcp")
    @classmethod
    def _check_mcp(cls, value: bool) -> bool:
        if value and importlib.util.find_spec("mcp") is None:
            raise ValueError("the Model Context Protocol needs another package: pip install 'yjs-gateway[mcp]'")
        return value

    @field_validator("tracing")
    @classmethod
    def _check_tracing(cls, value: bool) -> bool:
        if value and importlib.util.find_spec("opentelemetry") is None:
            raise ValueError("tracing needs other packages: pip install 'yjs-gateway[otel]'")
        return value

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        if self.jwt_key and self.jwks_url:
            raise ValueError("set GATEWAY_JWT_KEY or GATEWAY_JWKS_URL, not both")
        self.web_tokens()
        return self

    def web_tokens(self) -> "JsonWebTokens | None":
        """What checks the application's JWTs; None where no key of theirs is set."""
        if not self.jwt_key and not self.jwks_url:
            return None
        from gateway.access.jwt import FixedKey, JsonWebTokens, KeySet  # it takes long, and few need it

        keys = (
            FixedKey(self.jwt_key, self.jwt_algorithms) if self.jwt_key else KeySet(self.jwks_url, self.jwt_algorithms)
        )
        return JsonWebTokens(keys, audience=self.jwt_audience or None, issuer=self.jwt_issuer or None)

    @property
    def rate_limits(self) -> RateLimits:
        """The bounds of what one client asks for."""
        usual = RateLimits() if self.is_local else _USUAL_RATES
        given = {"requests": self.rate_requests, "bytes": self.rate_bytes, "connections": self.rate_connections}
        told = {name: value for name, value in given.items() if value is not None}
        return replace(usual, **told, failures=self.rate_failures)

    @property
    def asks_for_credentials(self) -> bool:
        """Whether requests need a credential."""
        return self.auth == "required" or (self.auth == "auto" and not self.is_local)

    @property
    def is_local(self) -> bool:
        """Whether the gateway listens on loopback only."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def connection_limits(self) -> ConnectionLimits:
        """The bounds of connections."""
        return ConnectionLimits(
            connections=self.connections,
            head_seconds=self.head_seconds,
            pipeline_bytes=self.pipeline_bytes,
            unread_bytes=self.unread_bytes,
            unread_seconds=self.unread_seconds,
            pong_bytes=self.pong_bytes,
            keep_alive_seconds=self.keep_alive_seconds,
        )

    @property
    def body_limits(self) -> BodyLimits:
        """The bounds of bodies that are coming in."""
        return BodyLimits(self.bodies_bytes, self.body_seconds)

    @property
    def retention(self) -> RetentionPolicy:
        """What is kept."""
        return RetentionPolicy(self.retain_versions, self.retain_days, self.retain_tombstone_days)

    @property
    def bounds(self) -> dict[str, float]:
        """Every setting that is a number, and so a bound of something, by its environment variable."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {
            f"GATEWAY_{name.upper()}": float(value)
            for name, value in values.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and name != "port"
        }

    @property
    def storage_limits(self) -> StorageLimits:
        """With what bounds the database is opened."""
        return StorageLimits(
            queued_changes=self.queued_writes,
            queued_bytes=self.queued_write_bytes,
            log_bytes=self.log_bytes,
            same=self.same_database,
            patience=self.database_seconds,
        )

    @property
    def serving_limits(self) -> StorageLimits:
        """With what bounds the database is opened to be served, which may be for long."""
        log_space = min(_LOG_SPACE_BYTES, self.log_bytes // _LOG_SPACE_SHARE)
        return replace(self.storage_limits, log_space=log_space)
