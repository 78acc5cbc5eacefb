-- The checksum of a version into which older ones were folded is inverted: it tells that the row is a whole document.
UPDATE file_update SET checksum = 4294967295 - checksum
    WHERE checksum IS NOT NULL AND id IN (
        SELECT file_update.id FROM file JOIN file_update ON file_update.file = file.id AND file_update.version = base_version
    );
