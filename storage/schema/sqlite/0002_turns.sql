-- A session of work with an agent, and its turns; both take their places in the project's sequence.
CREATE TABLE session (
    id         INTEGER PRIMARY KEY,
    project    INTEGER NOT NULL REFERENCES project (id),
    name       TEXT    NOT NULL,
    title      TEXT,
    sequence   INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX session_by_name ON session (project, name);
CREATE INDEX session_by_age ON session (project, id);

-- The newest state of every turn. It is written with each block: what is long stands elsewhere.
CREATE TABLE turn (
    id            INTEGER PRIMARY KEY,
    project       INTEGER NOT NULL REFERENCES project (id),
    session       INTEGER NOT NULL REFERENCES session (id),
    name          TEXT    NOT NULL,
    status        TEXT    NOT NULL,
    block_count   INTEGER NOT NULL,
    sequence      INTEGER NOT NULL,
    last_updated  INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    started_at    INTEGER,
    completed_at  INTEGER,
    error         TEXT,
    size          INTEGER NOT NULL,
    output_offset INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX turn_by_name ON turn (session, name);
CREATE UNIQUE INDEX turn_by_sequence ON turn (project, sequence);
CREATE INDEX turn_by_age ON turn (session, id);
CREATE INDEX running_turn ON turn (id) WHERE status = 'running';

CREATE TABLE prompt (
    turn INTEGER PRIMARY KEY REFERENCES turn (id),
    body TEXT NOT NULL
) STRICT;

-- What the reader of an agent's output has to remember between two requests, where that is anything.
CREATE TABLE output_state (
    turn INTEGER PRIMARY KEY REFERENCES turn (id),
    body BLOB NOT NULL
) STRICT;

CREATE TABLE block (
    id         INTEGER PRIMARY KEY,
    turn       INTEGER NOT NULL REFERENCES turn (id),
    position   INTEGER NOT NULL,
    type       TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    size       INTEGER NOT NULL,
    content    BLOB    NOT NULL
) STRICT;
CREATE UNIQUE INDEX block_by_position ON block (turn, position);
