-- Tickets that were issued and not used yet. The credential is encrypted with a key that only the ticket gives, and the
-- ticket is not stored: a damaged row is a ticket that is refused.
CREATE TABLE ticket (
    digest  bytea  PRIMARY KEY,
    project text   NOT NULL,
    sealed  bytea  NOT NULL,
    expires bigint NOT NULL
);
CREATE INDEX ticket_by_expiry ON ticket (expires);
