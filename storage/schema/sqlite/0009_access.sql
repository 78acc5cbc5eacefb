-- Tokens of the gateway, and who did what. `digest` is the SHA-256 of a token's secret, which is stored nowhere.
CREATE TABLE access_token (
    id        INTEGER PRIMARY KEY,
    name      TEXT    NOT NULL UNIQUE,
    digest    BLOB    NOT NULL,
    title     TEXT    NOT NULL,
    subject   TEXT    NOT NULL,
    granted   TEXT    NOT NULL,
    created   INTEGER NOT NULL,
    expires   INTEGER,
    last_used INTEGER,
    revoked   INTEGER
) STRICT;
CREATE TABLE audit (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    time       INTEGER NOT NULL,
    action     TEXT    NOT NULL,
    subject    TEXT,
    credential TEXT,
    project    TEXT,
    path       TEXT,
    version    INTEGER,
    detail     TEXT
) STRICT;
CREATE INDEX audit_by_time ON audit (time);
CREATE INDEX audit_by_project ON audit (project, id);
CREATE INDEX audit_by_subject ON audit (subject, id);
