-- The sequence of the change that each row of the log is: which version a file had at a cursor. It has a checksum of its
-- own. Of rows from before this file only that of each file's newest version is known.
ALTER TABLE file_update ADD COLUMN sequence INTEGER;
ALTER TABLE file_update ADD COLUMN sequence_check INTEGER;

UPDATE file_update SET sequence = file.sequence FROM file
    WHERE file.id = file_update.file AND file.version = file_update.version;
UPDATE file_update SET sequence_check = row_checksum(file, version, sequence) WHERE sequence IS NOT NULL;
