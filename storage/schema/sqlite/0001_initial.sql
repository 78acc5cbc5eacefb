-- A project is one ordered sequence of changes; its row holds where the sequence stands.
CREATE TABLE project (
    id            INTEGER PRIMARY KEY,
    name          TEXT    NOT NULL UNIQUE,
    epoch         TEXT    NOT NULL,
    sequence      INTEGER NOT NULL,
    last_modified INTEGER NOT NULL
) STRICT;

-- The newest state of every file that ever was, tombstones included.
CREATE TABLE file (
    id            INTEGER PRIMARY KEY,
    project       INTEGER NOT NULL REFERENCES project (id),
    path          TEXT    NOT NULL,
    version       INTEGER NOT NULL,
    incarnation   TEXT    NOT NULL,
    sequence      INTEGER NOT NULL,
    last_modified INTEGER NOT NULL,
    size          INTEGER NOT NULL,
    deleted       INTEGER NOT NULL,
    born_version  INTEGER NOT NULL,
    born_sequence INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX file_by_path ON file (project, path);
CREATE UNIQUE INDEX file_by_sequence ON file (project, sequence);
CREATE INDEX live_file_by_path ON file (project, path) WHERE deleted = 0;

-- The log: one row a version; the body of a tombstone is NULL. The checksum is the CRC-32 of the body.
CREATE TABLE file_update (
    id            INTEGER PRIMARY KEY,
    file          INTEGER NOT NULL REFERENCES file (id),
    version       INTEGER NOT NULL,
    last_modified INTEGER NOT NULL,
    size          INTEGER NOT NULL,
    author        TEXT,
    checksum      INTEGER,
    body          BLOB
) STRICT;
CREATE UNIQUE INDEX file_update_by_version ON file_update (file, version);

-- Every incarnation of a file that had one before its present one.
CREATE TABLE past_life (
    file          INTEGER NOT NULL REFERENCES file (id),
    born_version  INTEGER NOT NULL,
    incarnation   TEXT    NOT NULL,
    born_sequence INTEGER NOT NULL,
    died_sequence INTEGER NOT NULL,
    PRIMARY KEY (file, born_version)
) STRICT, WITHOUT ROWID;

-- A cache that may be emptied at any time.
CREATE TABLE snapshot (
    file     INTEGER NOT NULL REFERENCES file (id),
    version  INTEGER NOT NULL,
    size     INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    body     BLOB    NOT NULL,
    PRIMARY KEY (file, version)
) STRICT;
