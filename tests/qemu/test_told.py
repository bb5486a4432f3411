"""What QEMU's events mean: the fold over the log, piece by piece."""

from __future__ import annotations

from typing import Any

import pytest

from virtsnap.model.event import Change, DomainEvent
from virtsnap.qemu.events import Event
from virtsnap.qemu.told import Heard, target_of, told

LIVE = """<domain type='qemu'><name>vm</name><memory>1024</memory><os><type>hvm</type></os><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/i/a'/>
<target dev='vda' bus='virtio'/>
<alias name='virtio-disk0'/></disk>
<disk type='file' device='cdrom'><target dev='sda' bus='sata'/><alias name='sata0-0-0'/></disk>
<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/><alias name='channel0'/></channel>
</devices></domain>"""
VDA = {"qom-path": "/machine/peripheral/virtio-disk0/virtio-backend", "device": "", "operation": "write"}
CLIENT = {"host": "::1", "service": "4711", "family": "ipv6"}
SERVER = {"host": "127.0.0.1", "service": "5900", "family": "ipv4", "auth": "none"}


def lines(*events: tuple[str, dict[str, Any]], heard: Heard | None = None) -> list[str]:
    """As virsh prints them, without the domain; each event read by itself, the state kept as text."""
    from virtsnap.cli.event_text import text

    heard, found = heard or Heard(), []
    for name, data in events:
        changes, heard = told([Event(name, data, 5, 0)], Heard.from_json(heard.to_json()), LIVE)
        found += [text(DomainEvent("u", "vm", 1, change, at)).rstrip("\n") for change, at in changes]
    return [line.replace(" for domain 'vm'", "").removeprefix("event ") for line in found]


def test_why_the_guest_stands_still() -> None:
    assert lines(
        ("BLOCK_IO_ERROR", {**VDA, "action": "stop", "nospace": True}),
        ("STOP", {}),
        ("RESUME", {}),
        ("WATCHDOG", {"action": "pause"}),
        ("STOP", {}),
        ("RESUME", {}),
        ("STOP", {}),
    ) == [
        "'io-error': /i/a (virtio-disk0) pause",
        "'io-error-reason': /i/a (virtio-disk0) pause due to enospc",
        "'lifecycle': Suspended I/O Error",
        "'lifecycle': Resumed Unpaused",
        "'watchdog': pause",
        "'lifecycle': Suspended Watchdog",
        "'lifecycle': Resumed Unpaused",
        "'lifecycle': Suspended Paused",
    ]


def test_the_first_run_of_memory_that_was_read() -> None:
    restored = Heard(first_resume=402)
    assert lines(("RESUME", {}), ("STOP", {}), ("RESUME", {}), heard=restored) == [
        "'lifecycle': Resumed Snapshot",
        "'lifecycle': Suspended Paused",
        "'lifecycle': Resumed Unpaused",
    ]


def test_a_reboot_by_the_power_button_is_a_reboot() -> None:
    down = ("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"})
    both = (down, ("STOP", {}), ("RESET", {"guest": False}), ("RESUME", {}))
    assert lines(*both, heard=Heard(reboots=True)) == ["'reboot'"]
    assert len(lines(*both)) == 4


def test_jobs() -> None:
    commit = {"device": "commit-vda-libvirt-1-format", "type": "commit", "len": 1, "offset": 1, "speed": 0}
    ours = {**commit, "device": "virtsnap-delete-vda-0"}
    pull = {**commit, "device": "pull-vda-libvirt-1-format", "type": "stream"}
    assert lines(
        ("BLOCK_JOB_READY", commit),
        ("BLOCK_JOB_COMPLETED", commit),
        ("BLOCK_JOB_COMPLETED", ours),
        ("BLOCK_JOB_COMPLETED", {**pull, "error": "No space left on device"}),
        ("BLOCK_JOB_CANCELLED", {**pull, "type": "mirror"}),
        ("BLOCK_JOB_COMPLETED", {**commit, "device": "something"}),
        heard=Heard(moves={"commit-vda-libvirt-1-format": "/i/a"}),
    ) == [
        "'block-job': Active Block Commit for /i/a ready",
        "'block-job-2': Active Block Commit for vda ready",
        "'block-job': Active Block Commit for /i/a completed",
        "'block-job-2': Active Block Commit for vda completed",
        "'block-job': Block Commit for /i/a completed",
        "'block-job-2': Block Commit for vda completed",
        "'block-job': Block Pull for /i/a failed",
        "'block-job-2': Block Pull for vda failed",
        "'block-job': Block Copy for /i/a canceled",
        "'block-job-2': Block Copy for vda canceled",
    ]


def test_a_job_that_is_told_to_end_where_it_is() -> None:
    copy = {"device": "virtsnap-copy-vda-3", "type": "mirror"}
    assert lines(("BLOCK_JOB_READY", copy), ("BLOCK_JOB_COMPLETED", copy))[2:] == [
        "'block-job': Block Copy for /i/a canceled",
        "'block-job-2': Block Copy for vda canceled",
    ]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("RESET", {}, ["'reboot'"]),
        ("RTC_CHANGE", {"offset": 78, "qom-path": "/"}, ["'rtc-change': 78"]),
        ("BALLOON_CHANGE", {"actual": 1 << 20}, ["'balloon-change': 1024KiB"]),
        ("DEVICE_DELETED", {"device": "net0", "path": "/"}, ["'device-removed': net0"]),
        ("DEVICE_DELETED", {"path": "/"}, []),
        (
            "DEVICE_TRAY_MOVED",
            {"device": "", "id": "sata0-0-0", "tray-open": True},
            ["'tray-change' disk sata0-0-0: opened"],
        ),
        (
            "VSERPORT_CHANGE",
            {"id": "channel0", "open": True},
            ["'agent-lifecycle': state: 'connected' reason: 'channel event'"],
        ),
        ("VSERPORT_CHANGE", {"id": "channel1", "open": True}, []),
        ("SUSPEND", {}, ["'pm-suspend'", "'lifecycle': PMSuspended Memory"]),
        ("WAKEUP", {}, ["'pm-wakeup'", "'lifecycle': Started Event wakeup"]),
        ("GUEST_PANICKED", {"action": "poweroff"}, ["'lifecycle': Crashed Panicked"]),
        (
            "SHUTDOWN",
            {"guest": True, "reason": "guest-shutdown"},
            ["'lifecycle': Shutdown Finished after guest request"],
        ),
        ("SHUTDOWN", {"guest": False, "reason": "host-signal"}, []),
        ("MIGRATION_PASS", {"pass": 2}, ["'migration-iteration': iteration: '2'"]),
        (
            "VNC_DISCONNECTED",
            {"server": SERVER, "client": CLIENT},
            ["'graphics': disconnected local[IPv4 127.0.0.1 5900] remote[IPv6 ::1 4711] none"],
        ),
        ("NIC_RX_FILTER_CHANGED", {}, []),
    ],
)
def test_each_by_itself(name: str, data: dict[str, Any], words: list[str]) -> None:
    assert lines((name, data)) == words


@pytest.mark.parametrize(
    ("job", "target"),
    [
        ("commit-vda-libvirt-1-format", "vda"),
        ("copy-sdb2-libvirt-3-format", "sdb2"),
        ("virtsnap-flatten-hda-1", "hda"),
        ("virtsnap-delete-0", None),
        ("snapshot-save", None),
    ],
)
def test_whose_job_it_is(job: str, target: str | None) -> None:
    assert target_of(job) == target


def test_where_the_disk_writes_afterwards() -> None:
    commit = {"device": "virtsnap-delete-vda-0", "type": "commit"}
    both = (("BLOCK_JOB_READY", commit), ("BLOCK_JOB_COMPLETED", commit), ("BLOCK_JOB_COMPLETED", commit))
    told_of = lines(*both, heard=Heard(moves={"virtsnap-delete-vda-0": "/i/base"}))
    assert [line.split(" for ")[1] for line in told_of if "'block-job'" in line] == [
        "/i/a ready",
        "/i/base completed",
        "/i/a completed",
    ]


def test_times_are_qemus() -> None:
    changes, _ = told([Event("RESET", {}, 5, 250_000)], Heard(), None)
    assert [(at, isinstance(change, Change)) for change, at in changes] == [(5.25, True)]
