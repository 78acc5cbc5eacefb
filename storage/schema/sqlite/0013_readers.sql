-- Readers with a place of their own: who is sent what happens in a project, and up to where it was sent. `settings` and
-- `state` are the gateway's; `looked` is the sequence of the project when the reader was looked at last. `due` is when to
-- look at it next: NULL when its project moves on, and where it has ended; `stage` says what for.
CREATE TABLE reader (
    id         INTEGER PRIMARY KEY,
    project    INTEGER NOT NULL REFERENCES project (id),
    kind       TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    revision   TEXT    NOT NULL,
    settings   TEXT    NOT NULL,
    cursor     TEXT    NOT NULL,
    looked     INTEGER NOT NULL,
    state      TEXT    NOT NULL,
    due        INTEGER,
    stage      TEXT    NOT NULL,
    row_check  INTEGER NOT NULL,
    seat_check INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX reader_by_name ON reader (project, kind, name);
CREATE INDEX reader_by_due ON reader (due) WHERE due IS NOT NULL;
CREATE INDEX idle_reader ON reader (project, looked) WHERE stage = 'idle';

-- What the gateway made once and keeps: keys.
CREATE TABLE kept (
    name      TEXT    PRIMARY KEY,
    value     TEXT    NOT NULL,
    row_check INTEGER NOT NULL
) STRICT;
