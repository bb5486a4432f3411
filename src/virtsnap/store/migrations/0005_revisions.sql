-- The number of a snapshot's last write, no number twice in a store: who knows a tree reads what is newer.
ALTER TABLE snapshots ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
CREATE INDEX snapshots_by_revision ON snapshots (uuid, revision, name, current);
INSERT INTO counters VALUES ('snapshot_revision', 0);
