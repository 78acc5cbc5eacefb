-- Every key begins with the project, so that a project lies on one shard where a database has several. `row_check` is the
-- checksum of a row's values (storage/postgres/row_checks.py): a value that was changed is noticed when the row is read.

-- One row: what holds for the whole database.
CREATE TABLE cluster (
    one      boolean     PRIMARY KEY DEFAULT true CHECK (one),
    schema   integer     NOT NULL, -- the newest file of the schema that was run
    database text        NOT NULL, -- what this database is called
    awake_ms bigint      NOT NULL, -- time during which some gateway was up: leases of turns count in it
    awake_at timestamptz NOT NULL
);

-- A project is one ordered sequence of changes; its row holds where the sequence stands. `id` is a hash of the name.
CREATE TABLE project (
    id              bigint PRIMARY KEY,
    name            text COLLATE "C" NOT NULL,
    epoch           text   NOT NULL,
    sequence        bigint NOT NULL,
    last_modified   bigint NOT NULL,
    tombstone_floor bigint NOT NULL DEFAULT 0,
    row_check       bigint NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01);
CREATE INDEX project_by_name ON project (name);

-- What each gateway stored last in each project: after a lost connection it tells whether a batch was committed.
CREATE TABLE writer (
    project  bigint NOT NULL,
    node     text   NOT NULL,
    batch    bigint NOT NULL,
    wrote_at timestamptz NOT NULL,
    PRIMARY KEY (project, node)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01);

-- The newest state of every file that ever was, tombstones included. `id` is the sequence of the change that made the
-- file. Its row moves with every change: no index has a column that does, or the row could not stay in its place.
CREATE TABLE file (
    project       bigint  NOT NULL,
    id            bigint  NOT NULL,
    path          text COLLATE "C" NOT NULL,
    version       bigint  NOT NULL,
    incarnation   text    NOT NULL,
    sequence      bigint  NOT NULL,
    last_modified bigint  NOT NULL,
    size          bigint  NOT NULL,
    deleted       boolean NOT NULL,
    born_version  bigint  NOT NULL,
    born_sequence bigint  NOT NULL,
    base_version  bigint  NOT NULL DEFAULT 0, -- the oldest version that can be had; 0: nothing was folded
    deleted_at    bigint,                     -- of a file that was deleted, as long as it can be restored
    row_check bigint NOT NULL,
    PRIMARY KEY (project, id)
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX file_by_path ON file (project, path);
CREATE INDEX live_file_by_path ON file (project, path) WHERE NOT deleted;
CREATE INDEX tombstone_by_path ON file (project, path) WHERE deleted_at IS NOT NULL;
CREATE INDEX tombstone_by_age ON file (deleted_at) WHERE deleted_at IS NOT NULL;

-- The log: one row a version; the body of a tombstone is NULL. The checksum is the CRC-32 of the body, inverted where
-- older versions were folded into it. A version that was imported and is not its file's newest has a negative sequence.
CREATE TABLE change (
    project       bigint NOT NULL,
    sequence      bigint NOT NULL,
    file          bigint NOT NULL,
    version       bigint NOT NULL,
    last_modified bigint NOT NULL,
    size          bigint NOT NULL,
    author        text,
    checksum      bigint,
    body          bytea,
    row_check bigint NOT NULL,
    PRIMARY KEY (project, sequence)
);
ALTER TABLE change ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX change_by_version ON change (project, file, version);

-- Every incarnation of a file that had one before its present one.
CREATE TABLE past_life (
    project       bigint NOT NULL,
    file          bigint NOT NULL,
    born_version  bigint NOT NULL,
    incarnation   text   NOT NULL,
    born_sequence bigint NOT NULL,
    died_sequence bigint NOT NULL,
    row_check bigint NOT NULL,
    PRIMARY KEY (project, file, born_version)
);

-- A cache that may be emptied at any time.
CREATE TABLE snapshot (
    project  bigint NOT NULL,
    file     bigint NOT NULL,
    version  bigint NOT NULL,
    size     bigint NOT NULL,
    checksum bigint NOT NULL,
    body     bytea  NOT NULL,
    PRIMARY KEY (project, file, version)
);
ALTER TABLE snapshot ALTER COLUMN body SET STORAGE EXTERNAL;

-- Sessions and turns take their places in the project's sequence; `id` is the sequence of the change that made them.
CREATE TABLE session (
    project    bigint NOT NULL,
    id         bigint NOT NULL,
    name       text COLLATE "C" NOT NULL,
    title      text,
    sequence   bigint NOT NULL,
    created_at bigint NOT NULL,
    row_check bigint NOT NULL,
    PRIMARY KEY (project, id)
);
CREATE UNIQUE INDEX session_by_name ON session (project, name);

CREATE TABLE turn (
    project       bigint  NOT NULL,
    id            bigint  NOT NULL,
    session       text COLLATE "C" NOT NULL,
    name          text COLLATE "C" NOT NULL,
    status        text    NOT NULL,
    block_count   bigint  NOT NULL,
    sequence      bigint  NOT NULL,
    last_updated  bigint  NOT NULL,
    created_at    bigint  NOT NULL,
    started_at    bigint,
    completed_at  bigint,
    error         text,
    size          bigint  NOT NULL,
    output_offset bigint  NOT NULL,
    result_status text,
    result_error  text,
    settling      boolean NOT NULL,
    grown         boolean NOT NULL,
    written_ms    bigint, -- when it was written last, in the time of `cluster.awake_ms`; of a running turn
    row_check bigint NOT NULL,
    PRIMARY KEY (project, id)
);
CREATE UNIQUE INDEX turn_by_name ON turn (project, session, name);
CREATE INDEX turn_by_age ON turn (project, session, id);
CREATE INDEX turn_by_sequence ON turn (project, sequence);
CREATE INDEX running_turn ON turn (project, id) WHERE status = 'running';
CREATE INDEX silent_turn ON turn (written_ms) WHERE status = 'running';

CREATE TABLE prompt (
    project bigint NOT NULL,
    turn    bigint NOT NULL,
    body    text   NOT NULL,
    row_check bigint NOT NULL,
    PRIMARY KEY (project, turn)
);

-- What the reader of an agent's output has to remember between two requests; empty: nothing.
CREATE TABLE output_state (
    project bigint NOT NULL,
    turn    bigint NOT NULL,
    body    bytea  NOT NULL,
    row_check bigint NOT NULL,
    PRIMARY KEY (project, turn)
);

CREATE TABLE block (
    project    bigint NOT NULL,
    turn       bigint NOT NULL,
    position   bigint NOT NULL,
    type       text   NOT NULL,
    created_at bigint NOT NULL,
    content    bytea  NOT NULL,
    told_from  bigint,
    checksum   bigint NOT NULL, -- of the content
    row_check  bigint NOT NULL,
    PRIMARY KEY (project, turn, position)
);
ALTER TABLE block ALTER COLUMN content SET STORAGE EXTERNAL;

-- What came of the changes that bore a key (Idempotency-Key), for a day.
CREATE TABLE done (
    project     bigint NOT NULL,
    key         text   NOT NULL,
    digest      bytea  NOT NULL,
    session     text   NOT NULL,
    turn        text,
    block_count bigint NOT NULL,
    done_at     bigint NOT NULL,
    row_check bigint NOT NULL,
    PRIMARY KEY (project, key)
);
CREATE INDEX done_by_age ON done (done_at);

-- Tokens of the gateway, and who did what. `digest` is the SHA-256 of a token's secret, which is stored nowhere. Each row
-- has a checksum of its values (without the last use): what was changed grants nothing.
CREATE TABLE access_token (
    name      text PRIMARY KEY,
    digest    bytea  NOT NULL,
    title     text   NOT NULL,
    subject   text   NOT NULL,
    granted   text   NOT NULL,
    created   bigint NOT NULL,
    expires   bigint,
    last_used bigint,
    revoked   bigint,
    row_check bigint NOT NULL,
    added_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE audit (
    id         bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    time       bigint NOT NULL,
    action     text   NOT NULL,
    subject    text,
    credential text,
    project    text,
    path       text,
    version    bigint,
    detail     text,
    row_check  bigint NOT NULL
);
CREATE INDEX audit_by_time ON audit (time);
CREATE INDEX audit_by_project ON audit (project, id);
CREATE INDEX audit_by_subject ON audit (subject, id);

-- Which gateway does a job that one of them is to do, and until when.
CREATE TABLE upkeep (
    job    text PRIMARY KEY,
    holder text NOT NULL,
    until  timestamptz NOT NULL
);
