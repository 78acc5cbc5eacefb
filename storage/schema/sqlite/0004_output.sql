-- What the last result in an agent's output says of its turn, which goes on until the output has ended; `settling`: the
-- turn ends with it after a grace unless the output goes on. `grown`: the newest block has grown since it came.
ALTER TABLE turn ADD COLUMN result_status TEXT;
ALTER TABLE turn ADD COLUMN result_error TEXT;
ALTER TABLE turn ADD COLUMN settling INTEGER NOT NULL DEFAULT 0;
ALTER TABLE turn ADD COLUMN grown INTEGER NOT NULL DEFAULT 0;

-- The position from which on blocks are told again to a reader that has this one as its last: itself or one before it
-- was still growing when it came. NULL: none.
ALTER TABLE block ADD COLUMN told_from INTEGER;

-- What readers of output remembered has another form now. An agent that is within a line goes on with the next one.
DELETE FROM output_state;
