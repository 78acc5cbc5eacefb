-- Where commits were lost (a standby was promoted that had not everything, a backup was restored) numbers are given again.
-- `generation` is part of every name of an epoch and of an incarnation that clients are told: with a new one, all of them
-- start over. It is empty until then. `server` is the PostgreSQL cluster and its timeline in which the database was last.
ALTER TABLE cluster ADD COLUMN generation text NOT NULL DEFAULT '', ADD COLUMN server text;
