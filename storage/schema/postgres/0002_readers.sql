-- Readers with a place of their own: who is sent what happens in a project, and up to where it was sent. `settings` and
-- `state` are the gateway's; `looked` is the sequence of the project when the reader was looked at last. `due` is when to
-- look at it next: NULL when its project moves on, and where it has ended; `stage` says what for.
CREATE TABLE reader (
    project  bigint  NOT NULL,
    kind     text    NOT NULL,
    name     text COLLATE "C" NOT NULL,
    revision text    NOT NULL,
    settings text    NOT NULL,
    cursor   text    NOT NULL,
    looked   bigint  NOT NULL,
    state    text    NOT NULL,
    due      bigint,
    stage    text    NOT NULL,
    PRIMARY KEY (project, kind, name)
) WITH (fillfactor = 70);
CREATE INDEX reader_by_due ON reader (due) WHERE due IS NOT NULL;
CREATE INDEX idle_reader ON reader (project, looked) WHERE stage = 'idle';

-- What the gateway made once and keeps: keys.
CREATE TABLE kept (
    name  text PRIMARY KEY,
    value text NOT NULL
);
