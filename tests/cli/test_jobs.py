"""domjobinfo and domjobabort: virsh's layout, byte by byte."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Cli
from virtsnap.model.job import Amount, JobInfo, JobOperation, JobType

MEMORY = JobInfo(
    JobType.UNBOUNDED, JobOperation.SNAPSHOT, 1173, memory=Amount(910659, 67502080), disk=Amount()
)


def test_no_job(cli: Cli) -> None:
    assert cli.ok("domjobinfo", "demo") == "Job type:         None        \n\n"
    assert cli.ok("domjobinfo", "demo", "--rawstats") == "Job type: 0\n\n\n"
    assert cli.ok("domjobinfo", "demo", "--completed") == "Job type:         None        \n\n"
    assert cli.fails("domjobabort", "demo") == (
        "error: Requested operation is not valid: no job is active on the domain\n"
    )
    for command in ("domjobinfo", "domjobabort"):
        refused = "error: Requested operation is not valid: domain is not running\n"
        assert cli.fails(command, "other") == refused


def test_memory_is_written(cli: Cli) -> None:
    cli.service.job = MEMORY
    assert cli.ok("domjobinfo", "demo") == (
        "Job type:         Unbounded   \n"
        "Operation:        Snapshot    \n"
        "Time elapsed:     1173         ms\n"
        "Data processed:   889.315 KiB\n"
        "Data remaining:   63.507 MiB\n"
        "Data total:       64.375 MiB\n"
        "Memory processed: 889.315 KiB\n"
        "Memory remaining: 63.507 MiB\n"
        "Memory total:     64.375 MiB\n\n"
    )
    assert cli.ok("domjobinfo", "demo", "--rawstats") == (
        "Job type: 2\n\noperation: 6\ntime_elapsed: 1173\ndata_total: 67502080\ndata_processed: 910659\n"
        "data_remaining: 66591421\nmemory_total: 67502080\nmemory_processed: 910659\n"
        "memory_remaining: 66591421\n\n"
    )
    found = json.loads(cli.ok("domjobinfo", "demo", "--json"))
    assert (found["type"], found["operation"], found["data_total"]) == ("Unbounded", "Snapshot", 67502080)


def test_images_are_merged(cli: Cli) -> None:
    cli.service.job = JobInfo(JobType.UNBOUNDED, JobOperation.SNAPSHOT_DELETE, 5, disk=Amount(0, 2048))
    assert cli.ok("domjobinfo", "demo") == (
        "Job type:         Unbounded   \n"
        "Operation:        Snapshot delete\n"
        "Time elapsed:     5            ms\n"
        "Data processed:   0.000 B\n"
        "Data remaining:   2.000 KiB\n"
        "Data total:       2.000 KiB\n"
        "File processed:   0.000 B\n"
        "File remaining:   2.000 KiB\n"
        "File total:       2.000 KiB\n\n"
    )


def test_before_anything_is_copied(cli: Cli) -> None:
    cli.service.job = JobInfo(JobType.UNBOUNDED, JobOperation.SNAPSHOT_REVERT, 1)
    assert cli.ok("domjobinfo", "demo") == (
        "Job type:         Unbounded   \nOperation:        Snapshot revert\n"
        "Time elapsed:     1            ms\n\n"
    )


def test_the_completed_one_is_told_once(cli: Cli) -> None:
    cli.service.completed = JobInfo(JobType.COMPLETED, JobOperation.SNAPSHOT, 9)
    kept = cli.ok("domjobinfo", "demo", "--completed", "--keep-completed")
    assert kept.startswith("Job type:         Completed   \nOperation:        Snapshot    \n")
    assert cli.ok("domjobinfo", "demo", "--completed") == kept
    assert cli.ok("domjobinfo", "demo", "--completed") == "Job type:         None        \n\n"
    assert cli.fails("domjobinfo", "demo", "--keep-completed") == (
        "error: Option --completed is required by option --keep-completed\n"
    )


def test_it_is_aborted(cli: Cli) -> None:
    cli.service.job = MEMORY
    assert cli.fails("-r", "domjobabort", "demo") == (
        "error: operation forbidden: read only access prevents virDomainAbortJob\n"
    )
    assert cli.ok("domjobabort", "demo") == "\n"
    assert cli.ok("domjobinfo", "demo") == "Job type:         None        \n\n"


@pytest.mark.parametrize("command", ["domjobinfo", "domjobabort"])
def test_unknown_domain(cli: Cli, command: str) -> None:
    assert cli.fails(command, "nope") == "error: failed to get domain 'nope'\n"
