-- The first schema. Instants are microseconds since 1970 in UTC; labels, state and event are JSON.
-- Each file here is one version: it runs in one transaction and is never changed once released.

CREATE TABLE accounts (
    name     TEXT NOT NULL PRIMARY KEY,
    identity TEXT,                        -- account id or api key; null until bound
    revision INTEGER NOT NULL DEFAULT 0,  -- moves with every intake
    cursor   INTEGER                      -- how far discovery has read
) STRICT, WITHOUT ROWID;

-- What is asked for is a column, the rest of an operation is in `state`.
CREATE TABLE operations (
    key           INTEGER PRIMARY KEY,
    account       TEXT NOT NULL,
    id            TEXT NOT NULL,
    source        TEXT NOT NULL,
    registered_at INTEGER NOT NULL,
    hint          INTEGER,                -- of its creation, before upstream said so
    labels        TEXT NOT NULL,
    status        TEXT NOT NULL,
    created_at    INTEGER,
    final_at      INTEGER,
    scraped_at    INTEGER,
    state         TEXT NOT NULL,
    untracked_at  INTEGER,
    done_at       INTEGER GENERATED ALWAYS AS (coalesce(untracked_at, final_at)) VIRTUAL,
    revision      INTEGER NOT NULL,       -- of the account, when intake last changed this row
    seq           INTEGER NOT NULL,       -- of its newest event
    position      INTEGER NOT NULL,       -- of its newest event
    UNIQUE (account, id)
) STRICT;
CREATE INDEX operations_by_revision ON operations (account, revision);
CREATE INDEX operations_done ON operations (done_at) WHERE done_at IS NOT NULL;

-- What was counted (`outcome`) or untracked (null), remembered beyond its details.
CREATE TABLE tombstones (
    account    TEXT NOT NULL,
    id         TEXT NOT NULL,
    outcome    TEXT,
    created_at INTEGER NOT NULL,          -- as well as it is known
    seq        INTEGER NOT NULL,
    PRIMARY KEY (account, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX tombstones_by_creation ON tombstones (created_at);

-- AUTOINCREMENT: a position is never given twice, also when all events have left.
CREATE TABLE events (
    position     INTEGER PRIMARY KEY AUTOINCREMENT,
    account      TEXT NOT NULL,
    operation_id TEXT NOT NULL,
    seq          INTEGER NOT NULL,
    occurred_at  INTEGER NOT NULL,
    labels       TEXT NOT NULL,
    event        TEXT NOT NULL,
    UNIQUE (account, operation_id, seq)
) STRICT;

-- Events are told in order, so one row says it for all of them up to a position.
CREATE TABLE told (
    up_to   INTEGER PRIMARY KEY,
    told_at INTEGER NOT NULL              -- never falls as up_to rises
) STRICT;
CREATE INDEX told_by_time ON told (told_at);

CREATE TABLE counters (
    account TEXT NOT NULL,
    key     TEXT NOT NULL,                -- JSON: the series, then its label values
    value   REAL NOT NULL,
    PRIMARY KEY (account, key)
) STRICT, WITHOUT ROWID;
