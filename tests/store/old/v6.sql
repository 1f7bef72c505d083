-- A store as version 6 left it: version 5, with the time when discovery began.
PRAGMA application_id = 1869641569;
PRAGMA user_version = 6;
BEGIN TRANSACTION;
CREATE TABLE accounts (
    name     TEXT NOT NULL PRIMARY KEY,
    identity TEXT,                        -- account id or api key; null until bound
    revision INTEGER NOT NULL DEFAULT 0,  -- moves with every intake
    cursor   INTEGER                      -- how far discovery has read
, counter_labels TEXT, api_key TEXT, discovery_began_at INTEGER) STRICT, WITHOUT ROWID;
INSERT INTO "accounts" VALUES('main','AC00000000000000000000000000000000',2,1768469400000005,NULL,NULL,NULL);
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
INSERT INTO "combinations" VALUES('main','[]',1768469400000000,1768469400000000,1768469400000000,1,0);
CREATE TABLE configured (
    account TEXT NOT NULL,
    id      TEXT NOT NULL,
    PRIMARY KEY (account, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE counters (
    account TEXT NOT NULL,
    key     TEXT NOT NULL,                -- JSON: the series, then its label values
    value   REAL NOT NULL, held REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (account, key)
) STRICT, WITHOUT ROWID;
INSERT INTO "counters" VALUES('main','["operations","completed"]',1.0,0.0);
CREATE TABLE events (
    position     INTEGER PRIMARY KEY AUTOINCREMENT,
    account      TEXT NOT NULL,
    operation_id TEXT NOT NULL,
    seq          INTEGER NOT NULL,
    occurred_at  INTEGER NOT NULL,
    labels       TEXT NOT NULL,
    event        TEXT NOT NULL, event_id TEXT NOT NULL DEFAULT '',
    UNIQUE (account, operation_id, seq)
) STRICT;
INSERT INTO "events" VALUES(3,'main','comms_operation_01h9krwprkeee8fzqspvwy6nq8',1,1768469400000000,'{"campaign":"spring"}','{"event":"operation.tracked","source":"api"}','019bc0fd-89c0-7a19-b1d3-72c5ad582d48');
INSERT INTO "events" VALUES(4,'main','comms_operation_01h9krwprkeee8fzqspvwy6nq8',2,1768469400000040,'{"campaign":"spring"}','{"event":"operation.moved","from_status":null,"to_status":"PROCESSING","stats":{"total":9,"sent":5},"updated_at":null,"delay_seconds":null,"status_word":null}','019bc0fd-89c0-77c6-8ccd-c693d7db9bac');
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
INSERT INTO "operations" VALUES(1,'main','comms_operation_01h9krwprkeee8fzqspvwy6nq8','api',1768469400000000,1768469399999993,'{"campaign":"spring"}','PROCESSING',1768469399999992,NULL,NULL,'{"word":"PROCESSING","stats":{"total":9,"sent":5}}',NULL,2,2,4);
CREATE TABLE told (
    up_to   INTEGER PRIMARY KEY,
    told_at INTEGER NOT NULL              -- never falls as up_to rises
) STRICT;
INSERT INTO "told" VALUES(2,1768469400000020);
INSERT INTO "told" VALUES(3,1768469400000030);
CREATE TABLE tombstones (
    account    TEXT NOT NULL,
    id         TEXT NOT NULL,
    outcome    TEXT,
    created_at INTEGER NOT NULL,          -- as well as it is known
    seq        INTEGER NOT NULL, done_at INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (account, id)
) STRICT, WITHOUT ROWID;
INSERT INTO "tombstones" VALUES('main','comms_operation_01h9krwprkeee8fzqspvwy6nq9','completed',1768469400000000,2,1768469400000030);
CREATE INDEX operations_by_revision ON operations (account, revision);
CREATE INDEX operations_done ON operations (done_at) WHERE done_at IS NOT NULL;
CREATE INDEX told_by_time ON told (told_at);
CREATE INDEX tombstones_done ON tombstones (done_at);
CREATE INDEX combinations_shown ON combinations (account, revision) WHERE shown_at IS NOT NULL;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',4);
COMMIT;
