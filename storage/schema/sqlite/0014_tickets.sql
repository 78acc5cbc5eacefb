-- Tickets that were issued and not used yet. The credential is encrypted with a key that only the ticket gives, and the
-- ticket is not stored: a damaged row is a ticket that is refused.
CREATE TABLE ticket (
    digest  BLOB    PRIMARY KEY,
    project TEXT    NOT NULL,
    sealed  BLOB    NOT NULL,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX ticket_by_expiry ON ticket (expires);
