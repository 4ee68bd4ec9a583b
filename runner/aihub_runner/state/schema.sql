-- The state of one spec. Rows hold facts, null until they are known; phases are derived from them.
-- Times ending in _s are Unix seconds of the server's clock, in _ns nanoseconds.

-- One row: the API root that the state belongs to, the results folder relative to the spec's, the version of aihub-runner
-- that wrote last (every later version keeps this column), and who holds the state. Intents are recorded only under the
-- holder's lease. column_names is the JSON of results/naming.py: names may hold characters that no TEXT can.
CREATE TABLE job (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    root         TEXT NOT NULL DEFAULT '',
    results      TEXT NOT NULL DEFAULT '',
    version      TEXT NOT NULL DEFAULT '',
    lease        TEXT NOT NULL DEFAULT '',
    holder_pid   INTEGER NOT NULL DEFAULT 0,
    holder_host  TEXT NOT NULL DEFAULT '',
    holder_since TEXT NOT NULL DEFAULT '',
    column_names TEXT NOT NULL DEFAULT ''
);
INSERT INTO job (id) VALUES (1);

-- An interrupted `--again`: runs newer than this row of `runs` are its work.
CREATE TABLE agains (
    target    TEXT NOT NULL,
    run_key   TEXT NOT NULL,
    after_run INTEGER NOT NULL,
    PRIMARY KEY (target, run_key)
) WITHOUT ROWID;

-- Parts of the spec's patterns that matched files.
CREATE TABLE matched_parts (
    part TEXT PRIMARY KEY
) WITHOUT ROWID;

-- Runs found on the service that are not verified yet, as lock file entries.
CREATE TABLE pending_entries (
    id                  INTEGER PRIMARY KEY,
    fingerprint         TEXT NOT NULL,
    fingerprint_version INTEGER NOT NULL,
    target              TEXT NOT NULL,
    run_key             TEXT NOT NULL,
    batch_id            INTEGER NOT NULL,
    run_id              TEXT NOT NULL,
    attempt             INTEGER NOT NULL,
    app                 TEXT NOT NULL,
    status              TEXT NOT NULL,
    files               INTEGER NOT NULL,
    documents           INTEGER NOT NULL,
    "when"              TEXT NOT NULL,
    members             TEXT NOT NULL
);

-- Runs, by id or tag, whose files a person decided to pay for again.
CREATE TABLE dismissed_runs (
    name TEXT PRIMARY KEY
) WITHOUT ROWID;

-- Files in the results folder, as written. announced is the digest recorded just before: after a crash between the two,
-- the file is still known to be ours. digest is empty for a file that was only announced.
CREATE TABLE outputs (
    path      TEXT PRIMARY KEY,
    digest    TEXT NOT NULL DEFAULT '',
    announced TEXT NOT NULL DEFAULT '',
    size      INTEGER NOT NULL DEFAULT 0,
    mtime_ns  INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- Files in the results folder that were found to hold these bytes under this stat, not while they were still young.
CREATE TABLE kept_files (
    path     TEXT PRIMARY KEY,
    size     INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    inode    INTEGER NOT NULL,
    digest   TEXT NOT NULL
) WITHOUT ROWID;

-- What an apply had read when it left nothing to do, as digests, and its report as JSON. revision is the change counter of
-- this file (its bytes 24 to 27) after this row was committed: any later write voids it.
CREATE TABLE settled (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    revision  INTEGER NOT NULL,
    inputs    TEXT NOT NULL,
    files     TEXT NOT NULL,
    lock_file TEXT NOT NULL,
    report    TEXT NOT NULL
);

-- What each kind of output, documents or tables, was made from.
CREATE TABLE made_from (
    kind     TEXT PRIMARY KEY,
    identity TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE result_warnings (
    kind     TEXT NOT NULL,
    position INTEGER NOT NULL,
    message  TEXT NOT NULL,
    PRIMARY KEY (kind, position)
) WITHOUT ROWID;

-- Tables that could not be written, and whether this machine lacked something for them.
CREATE TABLE table_errors (
    id          INTEGER PRIMARY KEY,
    message     TEXT NOT NULL,
    hint        TEXT NOT NULL,
    is_shortage INTEGER NOT NULL
);

-- The stat cache: saves hashing, decides nothing.
CREATE TABLE scanned (
    path       TEXT PRIMARY KEY,
    size       INTEGER NOT NULL,
    mtime_ns   INTEGER NOT NULL,
    ctime_ns   INTEGER NOT NULL,
    inode      INTEGER NOT NULL,
    digest     TEXT NOT NULL,
    scanned_ns INTEGER NOT NULL
) WITHOUT ROWID;

-- Files that the service itself would not take, as they were then.
CREATE TABLE refused_files (
    path     TEXT NOT NULL,
    identity TEXT NOT NULL,
    detail   TEXT NOT NULL,
    PRIMARY KEY (path, identity)
) WITHOUT ROWID;

-- Closed, for ever, by a fingerprint.
CREATE TABLE shards (
    id                  INTEGER PRIMARY KEY,
    fingerprint         TEXT,
    fingerprint_version INTEGER
);

-- path is empty where only the lock file knew of the file; stale says that digest is what the lock file has of it.
CREATE TABLE members (
    shard    INTEGER NOT NULL REFERENCES shards (id) ON DELETE CASCADE,
    name     TEXT NOT NULL,
    path     TEXT NOT NULL,
    size     INTEGER NOT NULL,
    digest   TEXT NOT NULL,
    password TEXT NOT NULL,
    stale    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (shard, name)
) WITHOUT ROWID;
CREATE INDEX members_by_path ON members (path);

-- A row is an intent; remote_id is the answer. lost_s says when a response was lost, sent_s when the last file was sent.
-- since_… is when the request's effect began to be waited for: a boot of this machine and its monotonic clock.
-- before lists the ids of batches of this name that were there before the intent. created_ms is the service's word,
-- verified says that the batch was found to be ours, and empty, before the first upload. A batch that is gone keeps its
-- row, with its own id as `gone`; the one in use has 0.
CREATE TABLE batches (
    id         INTEGER PRIMARY KEY,
    shard      INTEGER NOT NULL REFERENCES shards (id) ON DELETE CASCADE,
    target     TEXT NOT NULL,
    name       TEXT NOT NULL,
    intent_s   REAL NOT NULL,
    lost_s     REAL,
    remote_id  INTEGER,
    sent_s     REAL,
    since_boot TEXT NOT NULL DEFAULT '',
    since_mono REAL NOT NULL DEFAULT 0,
    before     TEXT NOT NULL DEFAULT '',
    created_ms INTEGER NOT NULL DEFAULT 0,
    verified   INTEGER NOT NULL DEFAULT 0,
    gone       INTEGER NOT NULL DEFAULT 0,
    UNIQUE (shard, target, gone)
);

-- Every name that was ever sent to a batch. digest is empty while it is unknown which bytes lie there; modified_s is
-- what the service listed after the upload, 0 where it listed nothing.
CREATE TABLE uploads (
    batch      INTEGER NOT NULL REFERENCES batches (id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    digest     TEXT NOT NULL,
    modified_s INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (batch, name)
) WITHOUT ROWID;

-- Batches that workers beyond this process may still send files to: what each was to hold then, and for how many seconds
-- such a worker may send late.
CREATE TABLE handed_batches (
    batch       INTEGER PRIMARY KEY REFERENCES batches (id) ON DELETE CASCADE,
    fingerprint TEXT NOT NULL,
    late_s      REAL NOT NULL
);

-- Batches that are kept: each content has a shard and a row of batches, all with the id of the same batch. kind says
-- whose it is.
CREATE TABLE kept_batches (
    batch INTEGER PRIMARY KEY REFERENCES batches (id) ON DELETE CASCADE,
    kind  TEXT NOT NULL
);

-- What this state put into batches that are kept. digest is empty while it is unknown which bytes lie there; modified_s
-- is what the service listed afterwards, 0 while that is not known.
CREATE TABLE placed_files (
    remote_id  INTEGER NOT NULL,
    name       TEXT NOT NULL,
    digest     TEXT NOT NULL DEFAULT '',
    modified_s INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (remote_id, name)
) WITHOUT ROWID;

-- The batches by which this state says that it changes or runs one that is kept: not deleted yet.
CREATE TABLE turns (
    remote_id INTEGER NOT NULL,
    name      TEXT NOT NULL PRIMARY KEY
) WITHOUT ROWID;

-- Our batches that are not used any more: their files are in other groups.
CREATE TABLE left_batches (
    remote_id INTEGER PRIMARY KEY
);

-- Files of batches that are not ours, 8 bytes of a hash of each name and size: with so many runs, they do not change.
CREATE TABLE foreign_batches (
    remote_id INTEGER PRIMARY KEY,
    runs      INTEGER NOT NULL,
    marks     BLOB NOT NULL
);

-- When no apply worked: from the last upload, start or fetch that was recorded until the next apply began to work.
CREATE TABLE pauses (
    begun_s REAL PRIMARY KEY,
    ended_s REAL NOT NULL
) WITHOUT ROWID;

-- What a run key stands for, so that a plan can say what has changed.
CREATE TABLE run_keys (
    run_key  TEXT PRIMARY KEY,
    settings TEXT NOT NULL
) WITHOUT ROWID;

-- A row is an intent to pay; remote_id is the answer. unknown says why it could not be found out, refused what the
-- service answered instead of a run: a gateway may have said so after the service had started it. remote_batch is the
-- batch that it was sent with, bound_s where a search for it begins (from an answer's body, or 1), gone whether the
-- service does not have it any more, twin another run that carries the same tag (0 for the first). given_up says that a
-- person decided that no run was started.
CREATE TABLE runs (
    id          INTEGER PRIMARY KEY,
    shard       INTEGER NOT NULL REFERENCES shards (id),
    batch       INTEGER NOT NULL REFERENCES batches (id),
    run_key     TEXT NOT NULL,
    attempt     INTEGER NOT NULL,
    tag         TEXT NOT NULL,
    intent_s    REAL NOT NULL,
    lost_s      REAL,
    unknown     TEXT NOT NULL DEFAULT '',
    remote_id   TEXT UNIQUE,
    status      TEXT NOT NULL DEFAULT '',
    message     TEXT NOT NULL DEFAULT '',
    started_ns  INTEGER NOT NULL DEFAULT 0,
    finished_ns INTEGER NOT NULL DEFAULT 0,
    since_boot  TEXT NOT NULL DEFAULT '',
    since_mono  REAL NOT NULL DEFAULT 0,
    refused     TEXT NOT NULL DEFAULT '',
    remote_batch INTEGER NOT NULL DEFAULT 0,
    bound_s     INTEGER NOT NULL DEFAULT 1,
    gone        INTEGER NOT NULL DEFAULT 0,
    twin        INTEGER NOT NULL DEFAULT 0,
    given_up    INTEGER NOT NULL DEFAULT 0,
    UNIQUE (shard, run_key, attempt, twin)
);

-- A row is an intent to delete parts of a batch or a run on the service, by its id there; jobs are the answer. A batch has
-- one part, input; a run has output, db_data and logs. done says that all of them are deleted.
CREATE TABLE deletions (
    kind      TEXT NOT NULL,
    remote_id TEXT NOT NULL,
    parts     TEXT NOT NULL,
    jobs      TEXT NOT NULL DEFAULT '',
    done      INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (kind, remote_id)
) WITHOUT ROWID;

-- A complete fetch of a run's results with one set of includes.
CREATE TABLE fetches (
    run       INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    include   TEXT NOT NULL,
    fetched_s REAL,
    PRIMARY KEY (run, include)
) WITHOUT ROWID;

CREATE TABLE pages (
    run         INTEGER NOT NULL,
    include     TEXT NOT NULL,
    file_offset INTEGER NOT NULL,
    path        TEXT NOT NULL,
    digest      TEXT NOT NULL,
    PRIMARY KEY (run, include, file_offset),
    FOREIGN KEY (run, include) REFERENCES fetches ON DELETE CASCADE
) WITHOUT ROWID;

-- Which answer lies where: the position-th file of the page at file_offset. name is NFC.
CREATE TABLE answers (
    run          INTEGER NOT NULL,
    include      TEXT NOT NULL,
    name         TEXT NOT NULL,
    file_offset  INTEGER NOT NULL,
    position     INTEGER NOT NULL,
    documents    INTEGER NOT NULL,
    field_errors INTEGER NOT NULL,
    PRIMARY KEY (run, include, name),
    FOREIGN KEY (run, include) REFERENCES fetches ON DELETE CASCADE
) WITHOUT ROWID;
