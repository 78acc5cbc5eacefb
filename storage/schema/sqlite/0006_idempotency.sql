-- What came of the changes that bore a key (Idempotency-Key), for a day: a repetition of the request is told the same.
-- `digest` is of what was asked for; `turn` is NULL where a session was created.
CREATE TABLE done (
    id          INTEGER PRIMARY KEY,
    project     INTEGER NOT NULL REFERENCES project (id),
    key         TEXT    NOT NULL,
    digest      BLOB    NOT NULL,
    session     TEXT    NOT NULL,
    turn        TEXT,
    block_count INTEGER NOT NULL,
    done_at     INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX done_by_key ON done (project, key);
