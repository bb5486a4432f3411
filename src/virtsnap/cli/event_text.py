"""Events as lines, in virsh's words (tools/virsh-domain-event.c of 11.3)."""

from __future__ import annotations

from virtsnap.model.event import Change, DomainEvent, EventKind

NAMES = {
    "lifecycle": EventKind.LIFECYCLE,
    "reboot": EventKind.REBOOT,
    "rtc-change": EventKind.RTC_CHANGE,
    "watchdog": EventKind.WATCHDOG,
    "io-error": EventKind.IO_ERROR,
    "graphics": EventKind.GRAPHICS,
    "io-error-reason": EventKind.IO_ERROR_REASON,
    "control-error": EventKind.CONTROL_ERROR,
    "block-job": EventKind.BLOCK_JOB,
    "disk-change": EventKind.DISK_CHANGE,
    "tray-change": EventKind.TRAY_CHANGE,
    "pm-wakeup": EventKind.PMWAKEUP,
    "pm-suspend": EventKind.PMSUSPEND,
    "balloon-change": EventKind.BALLOON_CHANGE,
    "pm-suspend-disk": EventKind.PMSUSPEND_DISK,
    "device-removed": EventKind.DEVICE_REMOVED,
    "block-job-2": EventKind.BLOCK_JOB_2,
    "tunable": EventKind.TUNABLE,
    "agent-lifecycle": EventKind.AGENT_LIFECYCLE,
    "device-added": EventKind.DEVICE_ADDED,
    "migration-iteration": EventKind.MIGRATION_ITERATION,
    "job-completed": EventKind.JOB_COMPLETED,
    "device-removal-failed": EventKind.DEVICE_REMOVAL_FAILED,
    "metadata-change": EventKind.METADATA_CHANGE,
    "block-threshold": EventKind.BLOCK_THRESHOLD,
    "memory-failure": EventKind.MEMORY_FAILURE,
    "memory-device-size-change": EventKind.MEMORY_DEVICE_SIZE_CHANGE,
    "nic-mac-change": EventKind.NIC_MAC_CHANGE,
}
"""virsh's names, in the order of their numbers."""

_WORDS = {kind: name for name, kind in NAMES.items()}
_LIFE = (
    "Defined",
    "Undefined",
    "Started",
    "Suspended",
    "Resumed",
    "Stopped",
    "Shutdown",
    "PMSuspended",
    "Crashed",
)
_DETAIL = (
    ("Added", "Updated", "Renamed", "Snapshot"),
    ("Removed", "Renamed"),
    ("Booted", "Migrated", "Restored", "Snapshot", "Event wakeup", "Recovered"),
    (
        "Paused",
        "Migrated",
        "I/O Error",
        "Watchdog",
        "Restored",
        "Snapshot",
        "API error",
        "Post-copy",
        "Post-copy Error",
    ),
    ("Unpaused", "Migrated", "Snapshot", "Post-copy", "Post-copy Error"),
    ("Shutdown", "Destroyed", "Crashed", "Migrated", "Saved", "Failed", "Snapshot", "Recovered"),
    ("Finished", "Finished after guest request", "Finished after host request"),
    ("Memory", "Disk"),
    ("Panicked", "Crashloaded"),
)
_WATCHDOG = ("none", "pause", "reset", "poweroff", "shutdown", "debug", "inject-nmi")
_IO_ERROR = ("none", "pause", "report")
_TRAY = ("opened", "closed")
_JOB = ("Unknown job", "Block Pull", "Block Copy", "Block Commit", "Active Block Commit", "Backup")
_STATUS = ("completed", "failed", "canceled", "ready")
_STATE = ("unknown", "connected", "disconnected")
_REASON = ("unknown", "domain started", "channel event")
_PHASE = ("connected", "initialized", "disconnected")
_METADATA = ("description", "title", "element")
_FAMILY = ("IPv4", "IPv6", "unix")


def text(event: DomainEvent) -> str:
    """The event as virsh prints it, with a newline."""
    kind, change = event.kind, event.change
    said = _said(change)
    if kind is EventKind.TRAY_CHANGE:
        return f"event 'tray-change' for domain '{event.name}' disk {said}\n"
    return f"event '{_WORDS[kind]}' for domain '{event.name}'{said}\n"


def document(event: DomainEvent) -> dict[str, object]:
    """The same for programs: words where libvirt has numbers."""
    values: dict[str, object] = dict(event.change.values)
    if event.kind is EventKind.LIFECYCLE:
        life, detail = event.change.number("event"), event.change.number("detail")
        values = {"event": _LIFE[life].lower(), "detail": _DETAIL[life][detail].lower()}
    for name, words in _WORDS_OF.get(event.kind, ()):
        values[name] = _word(words, event.change.number(name))
    return {
        "event": _WORDS[event.kind],
        "domain": event.name,
        "uuid": event.uuid,
        "id": event.id,
        "at": event.at,
        "values": values,
    }


def _said(change: Change) -> str:
    number, string = change.number, change.text
    match change.kind:
        case EventKind.LIFECYCLE:
            life = number("event")
            return f": {_LIFE[life]} {_word(_DETAIL[life], number('detail'))}"
        case EventKind.RTC_CHANGE:
            return f": {number('utcoffset')}"
        case EventKind.WATCHDOG:
            return f": {_word(_WATCHDOG, number('action'))}"
        case EventKind.IO_ERROR | EventKind.IO_ERROR_REASON:
            said = f": {string('source')} ({string('alias')}) {_word(_IO_ERROR, number('action'))}"
            return said if change.kind is EventKind.IO_ERROR else f"{said} due to {string('reason')}"
        case EventKind.GRAPHICS:
            sides = " ".join(
                f"{side}[{_word(_FAMILY, number(f'{side}_family'))} {string(f'{side}_node')} "
                f"{string(f'{side}_service')}]"
                for side in ("local", "remote")
            )
            return f": {_word(_PHASE, number('phase'))} {sides} {string('auth')}"
        case EventKind.BLOCK_JOB | EventKind.BLOCK_JOB_2:
            job, status = _word(_JOB, number("type")), _word(_STATUS, number("status"))
            return f": {job} for {string('disk')} {status}"
        case EventKind.TRAY_CHANGE:
            return f"{string('alias')}: {_word(_TRAY, number('reason'))}"
        case EventKind.BALLOON_CHANGE:
            return f": {number('actual')}KiB"
        case EventKind.DEVICE_REMOVED:
            return f": {string('alias')}"
        case EventKind.AGENT_LIFECYCLE:
            state, reason = _word(_STATE, number("state")), _word(_REASON, number("reason"))
            return f": state: '{state}' reason: '{reason}'"
        case EventKind.MIGRATION_ITERATION:
            return f": iteration: '{number('iteration')}'"
        case EventKind.JOB_COMPLETED:
            return ":" + "".join(f"\n\t{name}: {value}" for name, value in change.params("stats").items())
        case EventKind.METADATA_CHANGE:
            return f": type {_word(_METADATA, number('type'))}, uri {string('uri') or '<null>'}"
        case _:
            return ""


_WORDS_OF: dict[EventKind, tuple[tuple[str, tuple[str, ...]], ...]] = {
    EventKind.WATCHDOG: (("action", _WATCHDOG),),
    EventKind.IO_ERROR: (("action", _IO_ERROR),),
    EventKind.IO_ERROR_REASON: (("action", _IO_ERROR),),
    EventKind.BLOCK_JOB: (("type", _JOB), ("status", _STATUS)),
    EventKind.BLOCK_JOB_2: (("type", _JOB), ("status", _STATUS)),
    EventKind.METADATA_CHANGE: (("type", _METADATA),),
    EventKind.TRAY_CHANGE: (("reason", _TRAY),),
    EventKind.AGENT_LIFECYCLE: (("state", _STATE), ("reason", _REASON)),
    EventKind.GRAPHICS: (("phase", _PHASE), ("local_family", _FAMILY), ("remote_family", _FAMILY)),
}


def _word(words: tuple[str, ...], number: int) -> str:
    return words[number] if 0 <= number < len(words) else "unknown"
