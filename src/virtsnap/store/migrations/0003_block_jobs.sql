-- Block jobs: what QEMU was asked to do on a disk, and what became of it. Kept for a while after their end,
-- for whoever waited for it.
CREATE TABLE block_jobs (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL REFERENCES domains (uuid) ON DELETE CASCADE,
    name TEXT NOT NULL UNIQUE,
    target TEXT NOT NULL,
    active INTEGER NOT NULL,
    job TEXT NOT NULL
);
CREATE INDEX block_jobs_by_uuid ON block_jobs (uuid);
INSERT INTO counters VALUES ('block_job', 0);
