-- What a list shows of domains, apart from their long texts; and the few block jobs that are not over.
CREATE INDEX domains_listed ON domains (
    name, uuid, persistent, autostart, reason,
    instance_id, instance_pid, instance_start_ticks, instance_boot_id, instance_run_dir
);
CREATE INDEX block_jobs_active ON block_jobs (uuid) WHERE active = 1;
