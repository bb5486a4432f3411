"""What QEMU's own events mean in libvirt's: the same kinds and values, in libvirt's order.

A fold over the log: what a line means can hang on lines before it, so each step gives the state for the next
one. Nothing is read or written here. What operations tell themselves (a domain started, was saved, ended) is
in their plans; a QEMU that its host ends says so in the log, too, and is passed over here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, field, replace
from typing import Any, TypeAlias

from virtsnap.formats.domain_xml import DomainDefinition, DomainDisk
from virtsnap.formats.guest_agent import agent_channel
from virtsnap.model.block_job import BlockJobType
from virtsnap.model.event import (
    AgentReason,
    AgentState,
    BlockJobStatus,
    Change,
    Detail,
    EventKind,
    GraphicsFamily,
    GraphicsPhase,
    IoErrorAction,
    TrayChange,
    WatchdogAction,
)
from virtsnap.model.frozen import dataclass
from virtsnap.qemu.events import Event

Told: TypeAlias = list[tuple[Change, float]]
"""Changes, and when each happened: seconds since the epoch."""


@dataclass(frozen=True)
class Heard:
    """What matters of all that a log has said so far."""

    first_resume: int = int(Detail.RESUMED_UNPAUSED)
    """Why the guest runs when it runs for the first time: it booted, or its memory was read."""
    stop: int = int(Detail.SUSPENDED_PAUSED)
    """Why the guest stands still when it does next."""
    ready: tuple[str, ...] = ()
    """Block jobs that have caught up with the guest."""
    moves: Mapping[str, str] = field(default_factory=dict)
    """Where the disk writes once a block job has completed, by the job's name."""
    reboots: bool = False
    """Going down and coming up is a reboot by the power button, and no more is told of it."""

    def to_json(self) -> str:
        """As text."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Heard:
        """As it was."""
        known = json.loads(text)
        return cls(**{**known, "ready": tuple(known.get("ready", ()))})


def told(events: Iterable[Event], heard: Heard, live_xml: str | None) -> tuple[Told, Heard]:
    """What the events say of the domain whose live definition is given, and the state after them."""
    translator = _Translator(heard, live_xml)
    for event in events:
        translator.take(event)
    return translator.told, translator.heard


def target_of(job: str) -> str | None:
    """The disk that a job is about, by the job's name: libvirt's `commit-vda-libvirt-1-format`, or ours."""
    found = _JOB.fullmatch(job)
    return found[1] if found else None


_JOB = re.compile(r"(?:commit|pull|copy|backup|virtsnap-[a-z]+)-([a-z][a-z0-9]*)(?:-.*)?")


class _Translator:
    def __init__(self, heard: Heard, live_xml: str | None) -> None:
        self.heard = heard
        self.told: Told = []
        self._live_xml = live_xml
        self._definition: DomainDefinition | None = None

    def take(self, event: Event) -> None:
        meaning = _MEANINGS.get(event.name)
        if meaning is not None:
            at = event.seconds + event.microseconds / 1_000_000
            self.told += [(change, at) for change in meaning(self, event.data)]

    # --- life ------------------------------------------------------------------------------------------

    def stopped(self, data: dict[str, Any]) -> list[Change]:
        if self.heard.reboots:
            return []
        detail = Detail(self.heard.stop)
        self.heard = replace(self.heard, stop=int(Detail.SUSPENDED_PAUSED))
        return [Change.life(detail)]

    def resumed(self, data: dict[str, Any]) -> list[Change]:
        if self.heard.reboots:
            return []
        detail = Detail(self.heard.first_resume)
        self.heard = replace(self.heard, first_resume=int(Detail.RESUMED_UNPAUSED))
        return [Change.life(detail)]

    def shut_down(self, data: dict[str, Any]) -> list[Change]:
        if data.get("reason") in _ENDED_BY_HOST or self.heard.reboots:
            return []
        return [Change.life(Detail.SHUTDOWN_GUEST if data.get("guest") else Detail.SHUTDOWN_HOST)]

    def slept(self, data: dict[str, Any]) -> list[Change]:
        return [Change(EventKind.PMSUSPEND), Change.life(Detail.PMSUSPENDED_MEMORY)]

    def slept_on_disk(self, data: dict[str, Any]) -> list[Change]:
        return [Change(EventKind.PMSUSPEND_DISK), Change.life(Detail.PMSUSPENDED_DISK)]

    def woke(self, data: dict[str, Any]) -> list[Change]:
        return [Change(EventKind.PMWAKEUP), Change.life(Detail.STARTED_WAKEUP)]

    def panicked(self, data: dict[str, Any]) -> list[Change]:
        return [Change.life(Detail.CRASHED_PANICKED)]

    def watchdog(self, data: dict[str, Any]) -> list[Change]:
        action = _WATCHDOG.get(str(data.get("action")), WatchdogAction.NONE)
        if action is WatchdogAction.PAUSE:
            self.heard = replace(self.heard, stop=int(Detail.SUSPENDED_WATCHDOG))
        return [Change(EventKind.WATCHDOG, {"action": int(action)})]

    # --- devices ---------------------------------------------------------------------------------------

    def io_error(self, data: dict[str, Any]) -> list[Change]:
        action = _IO_ERROR.get(str(data.get("action")), IoErrorAction.NONE)
        if action is IoErrorAction.PAUSE:
            self.heard = replace(self.heard, stop=int(Detail.SUSPENDED_IOERROR))
        disk = self._disk(str(data.get("qom-path", "")), str(data.get("device", "")))
        values: dict[str, str | int] = {
            "source": "" if disk is None else disk.source or "",
            "alias": "" if disk is None else disk.alias or "",
            "action": int(action),
        }
        reason = "enospc" if data.get("nospace") else "message" if data.get("reason") else ""
        return [
            Change(EventKind.IO_ERROR, values),
            Change(EventKind.IO_ERROR_REASON, {**values, "reason": reason}),
        ]

    def tray_moved(self, data: dict[str, Any]) -> list[Change]:
        disk = self._disk(str(data.get("id", "")), str(data.get("device", "")))
        if disk is None or disk.alias is None:
            return []
        reason = TrayChange.OPEN if data.get("tray-open") else TrayChange.CLOSE
        return [Change(EventKind.TRAY_CHANGE, {"alias": disk.alias, "reason": int(reason)})]

    def balloon(self, data: dict[str, Any]) -> list[Change]:
        return [Change(EventKind.BALLOON_CHANGE, {"actual": int(data["actual"]) // 1024})]

    def device_deleted(self, data: dict[str, Any]) -> list[Change]:
        alias = data.get("device")
        return [] if alias is None else [Change(EventKind.DEVICE_REMOVED, {"alias": str(alias)})]

    def channel(self, data: dict[str, Any]) -> list[Change]:
        agent = agent_channel(self._live_xml) if self._live_xml is not None else None
        if agent is None or data.get("id") != agent.alias:
            return []
        state = AgentState.CONNECTED if data.get("open") else AgentState.DISCONNECTED
        return [agent_changed(state, AgentReason.CHANNEL)]

    def rtc(self, data: dict[str, Any]) -> list[Change]:
        return [Change(EventKind.RTC_CHANGE, {"utcoffset": int(data["offset"])})]

    # --- jobs ------------------------------------------------------------------------------------------

    def job_ready(self, data: dict[str, Any]) -> list[Change]:
        self.heard = replace(self.heard, ready=(*self.heard.ready, str(data["device"])))
        return self._job(data, BlockJobStatus.READY)

    def job_completed(self, data: dict[str, Any]) -> list[Change]:
        job = str(data["device"])
        if "error" in data:
            status = BlockJobStatus.FAILED
        elif job in self.heard.ready and job not in self.heard.moves:
            # It was told to end where it was, which is no error to QEMU.
            status = BlockJobStatus.CANCELED
        else:
            status = BlockJobStatus.COMPLETED
        return self._job(data, status)

    def job_cancelled(self, data: dict[str, Any]) -> list[Change]:
        return self._job(data, BlockJobStatus.CANCELED)

    def _job(self, data: dict[str, Any], status: BlockJobStatus) -> list[Change]:
        job = str(data["device"])
        target = target_of(job)
        if target is None:
            return []
        type = _JOB_TYPES.get(str(data.get("type")), BlockJobType.UNKNOWN)
        if type is BlockJobType.COMMIT and job in self.heard.ready:
            type = BlockJobType.ACTIVE_COMMIT
        moved = self.heard.moves.get(job) if status is BlockJobStatus.COMPLETED else None
        if status is not BlockJobStatus.READY:
            left = tuple(other for other in self.heard.ready if other != job)
            moves = {name: path for name, path in self.heard.moves.items() if name != job}
            self.heard = replace(self.heard, ready=left, moves=moves)
        disk = next((disk for disk in self._disks() if disk.target == target), None)
        values = {"type": int(type), "status": int(status)}
        changes = [Change(EventKind.BLOCK_JOB_2, {"disk": target, **values})]
        path = moved or (disk.source if disk is not None and disk.type in ("file", "block") else None)
        if path is not None:
            changes.insert(0, Change(EventKind.BLOCK_JOB, {"disk": path, **values}))
        return changes

    # --- the definition --------------------------------------------------------------------------------

    def _disk(self, qom_path: str, device: str) -> DomainDisk | None:
        """By the device in QEMU's object tree, or by the name that older devices have."""
        found = re.match(r"/machine/peripheral/([^/]+)", qom_path)
        names = {found[1] if found else qom_path, device, device.removeprefix("drive-")}
        return next((disk for disk in self._disks() if disk.alias in names), None)

    def _disks(self) -> tuple[DomainDisk, ...]:
        if self._live_xml is None:
            return ()
        if self._definition is None:
            self._definition = DomainDefinition.parse(self._live_xml)
        return tuple(self._definition.disks)


def agent_changed(state: AgentState, reason: AgentReason) -> Change:
    """The guest agent came or went."""
    return Change(EventKind.AGENT_LIFECYCLE, {"state": int(state), "reason": int(reason)})


def _graphics(phase: GraphicsPhase) -> Callable[[_Translator, dict[str, Any]], list[Change]]:
    def meaning(translator: _Translator, data: dict[str, Any]) -> list[Change]:
        values: dict[str, str | int] = {"phase": int(phase)}
        for name, side in (("local", data.get("server", {})), ("remote", data.get("client", {}))):
            values[f"{name}_family"] = int(_FAMILIES.get(str(side.get("family")), GraphicsFamily.IPV4))
            # Spice has 'port' where VNC has 'service'.
            values[f"{name}_node"] = str(side.get("host", ""))
            values[f"{name}_service"] = str(side.get("service", side.get("port", "")))
        return [Change(EventKind.GRAPHICS, {**values, "auth": str(data.get("server", {}).get("auth", ""))})]

    return meaning


def _iteration(translator: _Translator, data: dict[str, Any]) -> list[Change]:
    return [Change(EventKind.MIGRATION_ITERATION, {"iteration": int(data["pass"])})]


def _reset(translator: _Translator, data: dict[str, Any]) -> list[Change]:
    return [Change(EventKind.REBOOT)]


_ENDED_BY_HOST = ("host-signal", "host-qmp-quit", "guest-panic")
"""Told with the end itself."""
_WATCHDOG = {
    "none": WatchdogAction.NONE,
    "pause": WatchdogAction.PAUSE,
    "reset": WatchdogAction.RESET,
    "poweroff": WatchdogAction.POWEROFF,
    "shutdown": WatchdogAction.SHUTDOWN,
    "debug": WatchdogAction.DEBUG,
    "inject-nmi": WatchdogAction.INJECTNMI,
}
_IO_ERROR = {"ignore": IoErrorAction.NONE, "stop": IoErrorAction.PAUSE, "report": IoErrorAction.REPORT}
_FAMILIES = {"ipv4": GraphicsFamily.IPV4, "ipv6": GraphicsFamily.IPV6, "unix": GraphicsFamily.UNIX}
_JOB_TYPES = {
    "stream": BlockJobType.PULL,
    "mirror": BlockJobType.COPY,
    "commit": BlockJobType.COMMIT,
    "backup": BlockJobType.BACKUP,
}
_MEANINGS: dict[str, Callable[[_Translator, dict[str, Any]], list[Change]]] = {
    "STOP": _Translator.stopped,
    "RESUME": _Translator.resumed,
    "SHUTDOWN": _Translator.shut_down,
    "RESET": _reset,
    "SUSPEND": _Translator.slept,
    "SUSPEND_DISK": _Translator.slept_on_disk,
    "WAKEUP": _Translator.woke,
    "GUEST_PANICKED": _Translator.panicked,
    "WATCHDOG": _Translator.watchdog,
    "BLOCK_IO_ERROR": _Translator.io_error,
    "DEVICE_TRAY_MOVED": _Translator.tray_moved,
    "BALLOON_CHANGE": _Translator.balloon,
    "DEVICE_DELETED": _Translator.device_deleted,
    "VSERPORT_CHANGE": _Translator.channel,
    "RTC_CHANGE": _Translator.rtc,
    "BLOCK_JOB_READY": _Translator.job_ready,
    "BLOCK_JOB_COMPLETED": _Translator.job_completed,
    "BLOCK_JOB_CANCELLED": _Translator.job_cancelled,
    "MIGRATION_PASS": _iteration,
    "VNC_CONNECTED": _graphics(GraphicsPhase.CONNECT),
    "VNC_INITIALIZED": _graphics(GraphicsPhase.INITIALIZE),
    "VNC_DISCONNECTED": _graphics(GraphicsPhase.DISCONNECT),
    "SPICE_CONNECTED": _graphics(GraphicsPhase.CONNECT),
    "SPICE_INITIALIZED": _graphics(GraphicsPhase.INITIALIZE),
    "SPICE_DISCONNECTED": _graphics(GraphicsPhase.DISCONNECT),
}
