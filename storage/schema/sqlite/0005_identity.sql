-- One row in a database that was opened for serving, none in a backup: what it is called, the inode of its file, and how
-- often it was opened. A copy, and the state of an earlier time, are told by it.
CREATE TABLE identity (
    database TEXT    NOT NULL,
    inode    TEXT    NOT NULL,
    opened   INTEGER NOT NULL
) STRICT;
