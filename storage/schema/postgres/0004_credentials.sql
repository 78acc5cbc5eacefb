-- The id of the credential that each version was written with. It has a checksum of its own. Nothing is known of rows from
-- before this file, nor where no credentials are required.
ALTER TABLE change ADD COLUMN credential text, ADD COLUMN credential_check bigint;
