-- The epochs of projects that were erased: a project that is gone was erased, unless commits were lost. Of a project only
-- the hash of its name is kept here.
CREATE TABLE erased (
    project bigint NOT NULL,
    epoch   text   NOT NULL,
    PRIMARY KEY (project, epoch)
);
