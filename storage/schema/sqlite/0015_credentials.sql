-- The id of the credential that each version was written with. It has a checksum of its own. Nothing is known of rows from
-- before this file, nor where no credentials are required.
ALTER TABLE file_update ADD COLUMN credential TEXT;
ALTER TABLE file_update ADD COLUMN credential_check INTEGER;
