-- Rows of the log that are to be moved to `file_update`, many at once and in the order of files. The index of
-- `file_update` would have a page changed for each file of a batch, and the one here has a few pages.
CREATE TABLE recent_update (
    id               INTEGER PRIMARY KEY,
    file             INTEGER NOT NULL REFERENCES file (id),
    version          INTEGER NOT NULL,
    last_modified    INTEGER NOT NULL,
    size             INTEGER NOT NULL,
    author           TEXT,
    checksum         INTEGER,
    body             BLOB,
    row_check        INTEGER,
    sequence         INTEGER,
    sequence_check   INTEGER,
    credential       TEXT,
    credential_check INTEGER
) STRICT;
CREATE UNIQUE INDEX recent_update_by_version ON recent_update (file, version);
