-- A tombstone leaves 8 days after the operation was done, by our clock: `createdAt` of one answer may be wrong. Those of
-- before count from the last time that the store knows, so that none leaves early.
ALTER TABLE tombstones ADD COLUMN done_at INTEGER NOT NULL DEFAULT 0;  -- final or untracked; never left at its default
UPDATE tombstones SET done_at = max(created_at, coalesce((SELECT max(told_at) FROM told), created_at));
DROP INDEX tombstones_by_creation;
CREATE INDEX tombstones_done ON tombstones (done_at);

-- The ids in `operations` of the configuration that was in force last; tombstones of these stay.
CREATE TABLE configured (
    account TEXT NOT NULL,
    id      TEXT NOT NULL,
    PRIMARY KEY (account, id)
) STRICT, WITHOUT ROWID;
