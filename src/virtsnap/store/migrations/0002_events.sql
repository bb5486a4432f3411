-- What happened to domains, for whoever watches. No reference: a domain that is gone has said so.
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    uuid TEXT NOT NULL,
    name TEXT NOT NULL,
    id INTEGER,
    kind INTEGER NOT NULL,
    data TEXT NOT NULL
);

-- How far the event log of each QEMU has been read, and what of it matters for the rest.
CREATE TABLE event_logs (
    run_dir TEXT PRIMARY KEY,
    uuid TEXT NOT NULL REFERENCES domains (uuid) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    heard TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX event_logs_by_uuid ON event_logs (uuid);
INSERT INTO event_logs SELECT instance_run_dir, uuid, -1, '{}' FROM domains WHERE instance_id IS NOT NULL;
