-- Combinations of counter labels are rows of their own, shown from the moment an operation with them is tracked.

ALTER TABLE accounts ADD COLUMN counter_labels TEXT;  -- JSON: the names in force, in order; null until adopted

-- Counted, but not to be shown before the values that the combination came with were seen.
ALTER TABLE counters ADD COLUMN held REAL NOT NULL DEFAULT 0;

-- Whole microseconds instead of seconds: they add up exactly in any order.
UPDATE counters
SET key = '["duration_micros"' || substr(key, length('["duration_sum"') + 1), value = round(value * 1000000)
WHERE key GLOB '?"duration_sum"*';

CREATE TABLE combinations (
    account    TEXT NOT NULL,
    key        TEXT NOT NULL,             -- JSON: name=value of each counter label, in order of the names
    created_at INTEGER NOT NULL,          -- first tracked: counted from 0
    tracked_at INTEGER NOT NULL,          -- an operation with it was last taken in, or ended
    shown_at   INTEGER,                   -- shown since; null while it is not
    is_open    INTEGER NOT NULL,          -- 1: what is counted shows at once, 0: it is held
    revision   INTEGER NOT NULL,          -- of the account, when it was last shown anew
    PRIMARY KEY (account, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX combinations_shown ON combinations (account, revision) WHERE shown_at IS NOT NULL;

-- What was counted so far is shown as before, as far as there is room.
INSERT INTO combinations (account, key, created_at, tracked_at, shown_at, is_open, revision)
SELECT account, key, now, now, iif(place < 200, now, NULL), place < 200, 0
FROM (
    SELECT account, key, row_number() OVER (PARTITION BY account ORDER BY key) AS place,
        CAST(strftime('%s', 'now') AS INTEGER) * 1000000 AS now
    FROM (SELECT DISTINCT account, json_remove(key, '$[0]', '$[0]') AS key FROM counters WHERE key GLOB '?"operations"*')
);
