-- The checksum of each row of a token (without its last use) and of the audit: a flipped bit grants nothing.
ALTER TABLE access_token ADD COLUMN row_check INTEGER;
ALTER TABLE audit ADD COLUMN row_check INTEGER;

UPDATE access_token SET row_check = row_checksum(name, digest, title, subject, granted, created, expires, revoked);
UPDATE audit SET row_check = row_checksum(time, action, subject, credential, project, path, version, detail);
