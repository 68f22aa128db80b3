-- Objects that were received, studies they belong to, jobs on them, and what the destination answered.

CREATE TABLE instance (
    sop_instance_uid     TEXT NOT NULL,
    content_sha256       TEXT NOT NULL,
    study_instance_uid   TEXT NOT NULL,
    series_instance_uid  TEXT NOT NULL,
    sop_class_uid        TEXT NOT NULL,
    transfer_syntax_uid  TEXT NOT NULL,
    modality             TEXT NOT NULL,
    acquisition          TEXT NOT NULL,
    position_mm          REAL,
    frames               INTEGER NOT NULL,
    ours                 INTEGER NOT NULL,
    conflict             INTEGER NOT NULL DEFAULT 0,
    path                 TEXT NOT NULL UNIQUE,
    size_bytes           INTEGER NOT NULL,
    calling_ae_title     TEXT NOT NULL,
    address              TEXT NOT NULL,
    received_at          TEXT NOT NULL,
    PRIMARY KEY (sop_instance_uid, content_sha256)
) WITHOUT ROWID;

CREATE INDEX instance_of_study ON instance (study_instance_uid, received_at);

-- Only images that can be assessed count here: CT that is not our own result.
CREATE TABLE study (
    study_instance_uid  TEXT PRIMARY KEY,
    images              INTEGER NOT NULL,
    taken_up            INTEGER NOT NULL DEFAULT 0,
    last_received_at    TEXT NOT NULL
) WITHOUT ROWID;

CREATE INDEX study_open ON study (study_instance_uid) WHERE images <> taken_up;

CREATE TABLE job (
    job_id              INTEGER PRIMARY KEY AUTOINCREMENT,
    study_instance_uid  TEXT NOT NULL,
    state               TEXT NOT NULL,
    attempt             INTEGER NOT NULL DEFAULT 0,
    due_at              TEXT NOT NULL,
    created_at          TEXT NOT NULL,
    updated_at          TEXT NOT NULL,
    lease_owner         TEXT NOT NULL DEFAULT '',
    lease_until         TEXT,
    instances_digest    TEXT NOT NULL,
    model_version       TEXT NOT NULL DEFAULT '',
    outcome             TEXT NOT NULL DEFAULT '',
    error               TEXT NOT NULL DEFAULT '',
    supersedes          INTEGER REFERENCES job (job_id),
    objects             TEXT NOT NULL DEFAULT '',
    transaction_uid     TEXT NOT NULL DEFAULT '',
    UNIQUE (study_instance_uid, instances_digest)
);

CREATE INDEX job_due ON job (state, due_at);

-- Every move of every job, in order: what `jobs show` tells.
CREATE TABLE job_move (
    job_id  INTEGER NOT NULL REFERENCES job (job_id),
    at      TEXT NOT NULL,
    state   TEXT NOT NULL,
    detail  TEXT NOT NULL
);

CREATE INDEX job_move_of_job ON job_move (job_id);

CREATE TABLE delivery (
    job_id            INTEGER NOT NULL REFERENCES job (job_id),
    sop_instance_uid  TEXT NOT NULL,
    sop_class_uid     TEXT NOT NULL,
    answer            TEXT NOT NULL,
    status            INTEGER,
    detail            TEXT NOT NULL,
    at                TEXT NOT NULL,
    PRIMARY KEY (job_id, sop_instance_uid)
) WITHOUT ROWID;
