-- Each row has a checksum of its other values (`row_checksum`, which the gateway brings): a bit that flips is noticed when
-- the row is read. What changes apart from the rest of its row, and the content of a block, has a checksum of its own.
ALTER TABLE project ADD COLUMN row_check INTEGER;
ALTER TABLE project ADD COLUMN floor_check INTEGER;
ALTER TABLE file ADD COLUMN row_check INTEGER;
ALTER TABLE file ADD COLUMN base_check INTEGER;
ALTER TABLE file_update ADD COLUMN row_check INTEGER;
ALTER TABLE past_life ADD COLUMN row_check INTEGER;
ALTER TABLE session ADD COLUMN row_check INTEGER;
ALTER TABLE turn ADD COLUMN row_check INTEGER;
ALTER TABLE prompt ADD COLUMN row_check INTEGER;
ALTER TABLE output_state ADD COLUMN row_check INTEGER;
ALTER TABLE block ADD COLUMN checksum INTEGER;
ALTER TABLE block ADD COLUMN row_check INTEGER;
ALTER TABLE done ADD COLUMN row_check INTEGER;

UPDATE project SET row_check = row_checksum(name, epoch, sequence, last_modified),
    floor_check = row_checksum(tombstone_floor);
UPDATE file SET row_check = row_checksum(path, version, incarnation, sequence, last_modified, size, deleted, born_version,
    born_sequence, project), base_check = row_checksum(base_version);
UPDATE file_update SET row_check = row_checksum(file, version, last_modified, size, author, checksum);
UPDATE past_life SET row_check = row_checksum(file, born_version, incarnation, born_sequence, died_sequence);
UPDATE session SET row_check = row_checksum(name, title, sequence, created_at, project);
UPDATE turn SET row_check = row_checksum((SELECT session.name FROM session WHERE session.id = turn.session), name, status, block_count, sequence, last_updated, created_at, started_at,
    completed_at, error, size, output_offset, result_status, result_error, settling, grown, project);
UPDATE prompt SET row_check = row_checksum(turn, body);
UPDATE output_state SET row_check = row_checksum(turn, body);
UPDATE block SET checksum = body_checksum(content);
UPDATE block SET row_check = row_checksum(turn, position, type, created_at, told_from, checksum);
UPDATE done SET row_check = row_checksum(project, key, digest, session, turn, block_count, done_at);
