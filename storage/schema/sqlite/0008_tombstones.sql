-- The files that were deleted, by path, as long as they can be restored.
CREATE INDEX tombstone_by_path ON file (project, path) WHERE deleted = 1 AND base_version < version;
