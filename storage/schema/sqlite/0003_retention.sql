-- The oldest version of the file that can be had; its row holds the whole document, and rows below it are to be deleted.
-- 0: nothing was folded.
ALTER TABLE file ADD COLUMN base_version INTEGER NOT NULL DEFAULT 0;

-- The newest tombstone that is no longer kept: who was here before it must start over.
ALTER TABLE project ADD COLUMN tombstone_floor INTEGER NOT NULL DEFAULT 0;
CREATE INDEX tombstone_by_age ON file (last_modified) WHERE deleted = 1 AND base_version < version;

-- One row in a backup, none in a database that is served: what is opened for serving with it begins new lives.
CREATE TABLE backup (
    made_at INTEGER NOT NULL
) STRICT;
