-- Domains: libvirt's definition texts, the state, and the process that runs one.
CREATE TABLE domains (
    uuid TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    config_xml TEXT NOT NULL,
    live_xml TEXT,
    persistent INTEGER NOT NULL,
    autostart INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    instance_id INTEGER UNIQUE,
    instance_pid INTEGER,
    instance_start_ticks INTEGER,
    instance_boot_id TEXT,
    instance_run_dir TEXT
) WITHOUT ROWID;

-- Numbers that only grow.
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO counters VALUES ('domain_id', 0);

-- Snapshots. "current" is a column and not a pointer in domains, so that one SELECT reads a whole tree.
CREATE TABLE snapshots (
    uuid TEXT NOT NULL REFERENCES domains (uuid) ON DELETE CASCADE,
    name TEXT NOT NULL,
    current INTEGER NOT NULL DEFAULT 0,
    creation_time INTEGER NOT NULL,
    state TEXT NOT NULL,
    parent TEXT,
    description TEXT,
    memory TEXT NOT NULL,
    memory_file TEXT,
    disks TEXT NOT NULL,
    revert_disks TEXT NOT NULL,
    domain_xml TEXT,
    inactive_domain_xml TEXT,
    cookie_xml TEXT,
    PRIMARY KEY (uuid, name)
);
CREATE UNIQUE INDEX snapshots_one_current ON snapshots (uuid) WHERE current = 1;

-- Which image files belong to a domain's snapshots.
CREATE TABLE images (
    uuid TEXT NOT NULL REFERENCES domains (uuid) ON DELETE CASCADE,
    path TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('overlay', 'origin', 'memory', 'nvram')),
    PRIMARY KEY (uuid, path)
) WITHOUT ROWID;
CREATE INDEX images_by_path ON images (path);

-- The one open operation of a domain. No CASCADE: a domain with an unfinished operation stays.
CREATE TABLE journal (
    uuid TEXT PRIMARY KEY REFERENCES domains (uuid),
    operation TEXT NOT NULL,
    plan TEXT NOT NULL,
    facts TEXT NOT NULL,
    holder TEXT NOT NULL,
    opened_at REAL NOT NULL,
    committed INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE journal_steps (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL REFERENCES journal (uuid) ON DELETE CASCADE,
    step_index INTEGER NOT NULL,
    phase TEXT NOT NULL CHECK (phase IN ('begin', 'done', 'undone')),
    at REAL NOT NULL
);
CREATE INDEX journal_steps_by_uuid ON journal_steps (uuid);

-- Closed operations, for reports and questions.
CREATE TABLE history (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL REFERENCES domains (uuid) ON DELETE CASCADE,
    operation TEXT NOT NULL,
    plan TEXT NOT NULL,
    facts TEXT NOT NULL,
    holder TEXT NOT NULL,
    opened_at REAL NOT NULL,
    committed INTEGER NOT NULL,
    steps TEXT NOT NULL,
    outcome TEXT NOT NULL,
    closed_at REAL NOT NULL
);
CREATE INDEX history_by_uuid ON history (uuid);
