"""What happens to domains, as messages: from an event to its procedure and values, and back.

Kinds up to 15 exist twice: alone, for clients that register without callback ids, and wrapped behind an id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from virtsnap.model.event import Change, DomainEvent, EventKind
from virtsnap.model.frozen import dataclass
from virtsnap.wire.frames import Frame, Kind
from virtsnap.wire.procedures import REMOTE, Procedure
from virtsnap.wire.values import INT, Param, WireDomain, params_of, values_of

_SERIAL = 1
"""As libvirtd numbers its messages; nobody looks at it."""
_NEWEST_OLD = 15


@dataclass(frozen=True)
class _Form:
    """How a kind travels: the end of its procedures' names, and its values by their names in `Change`."""

    name: str
    values: tuple[str, ...] = ()
    reason: bool = False
    """A reason that is always 0 stands behind the callback id."""


_FORMS = {
    EventKind.LIFECYCLE: _Form("lifecycle", ("event", "detail")),
    EventKind.REBOOT: _Form("reboot"),
    EventKind.RTC_CHANGE: _Form("rtc_change", ("utcoffset",)),
    EventKind.WATCHDOG: _Form("watchdog", ("action",)),
    EventKind.IO_ERROR: _Form("io_error", ("source", "alias", "action")),
    EventKind.GRAPHICS: _Form("graphics"),
    EventKind.IO_ERROR_REASON: _Form("io_error_reason", ("source", "alias", "action", "reason")),
    EventKind.CONTROL_ERROR: _Form("control_error"),
    EventKind.BLOCK_JOB: _Form("block_job", ("disk", "type", "status")),
    EventKind.TRAY_CHANGE: _Form("tray_change", ("alias", "reason")),
    EventKind.PMWAKEUP: _Form("pmwakeup", reason=True),
    EventKind.PMSUSPEND: _Form("pmsuspend", reason=True),
    EventKind.BALLOON_CHANGE: _Form("balloon_change", ("actual",)),
    EventKind.PMSUSPEND_DISK: _Form("pmsuspend_disk", reason=True),
    EventKind.DEVICE_REMOVED: _Form("device_removed", ("alias",)),
    EventKind.BLOCK_JOB_2: _Form("block_job_2", ("disk", "type", "status")),
    EventKind.AGENT_LIFECYCLE: _Form("agent_lifecycle", ("state", "reason")),
    EventKind.MIGRATION_ITERATION: _Form("migration_iteration", ("iteration",)),
    EventKind.JOB_COMPLETED: _Form("job_completed", ("stats",)),
    EventKind.METADATA_CHANGE: _Form("metadata_change", ("type", "uri")),
}


def has_old_form(kind: EventKind) -> bool:
    """Clients without callback ids can be told of it."""
    return kind <= _NEWEST_OLD


def message(event: DomainEvent, callback: int | None) -> Frame | None:
    """The frame for a registration, None for one of the old kind. None when there is no such message."""
    form = _FORMS.get(event.kind)
    if form is None or (callback is None and not has_old_form(event.kind)):
        return None
    procedure = _procedure(event.kind, form, old=callback is None)
    dom = WireDomain(event.name, UUID(event.uuid).bytes, -1 if event.id is None else event.id)
    body = (dom, *_values(event.change, form))
    if callback is None:
        values: tuple[Any, ...] = body
    elif has_old_form(event.kind):
        values = (callback, 0, body) if form.reason else (callback, body)
    else:
        values = (callback, *body)
    payload = procedure.pack_arguments(*values)
    return Frame(procedure.program, 1, procedure.number, Kind.MESSAGE, _SERIAL, payload=payload)


def pool_message(pool: tuple[str, bytes], event: int | None, callback: int) -> Frame:
    """What happens to a storage pool; `event` None: it was refreshed."""
    procedure = REMOTE["storage_pool_event_" + ("refresh" if event is None else "lifecycle")]
    values = (callback, pool) if event is None else (callback, pool, event, 0)
    payload = procedure.pack_arguments(*values)
    return Frame(procedure.program, 1, procedure.number, Kind.MESSAGE, _SERIAL, payload=payload)


def event_of(frame: Frame, at: float) -> tuple[int, DomainEvent] | None:
    """Callback id and event of a message; None for one that we have no value for. Raises XdrError."""
    kind = _kinds().get(frame.procedure)
    procedure = REMOTE.get(frame.procedure)
    if kind is None or procedure is None:
        return None
    callback, *rest = procedure.unpack_arguments(frame.payload)
    dom, *values = rest[-1] if has_old_form(kind) else rest
    id = None if dom.id == -1 else dom.id
    return callback, DomainEvent(dom.uuid_text, dom.name, id, _change(kind, values), at)


def job_params(stats: Mapping[str, str | int]) -> list[Param]:
    """A job's figures, of the types that libvirt gives them."""
    return params_of(stats, {"operation": INT})


def _procedure(kind: EventKind, form: _Form, *, old: bool) -> Procedure:
    modern = "domain_event_" if kind is EventKind.BLOCK_JOB_2 else "domain_event_callback_"
    return REMOTE[("domain_event_" if old else modern) + form.name]


def _kinds() -> Mapping[int, EventKind]:
    if not _KINDS:
        _KINDS.update({_procedure(kind, form, old=False).number: kind for kind, form in _FORMS.items()})
    return _KINDS


_KINDS: dict[int, EventKind] = {}


def _values(change: Change, form: _Form) -> tuple[Any, ...]:
    if change.kind is EventKind.GRAPHICS:
        ends = [
            (change.number(f"{end}_family"), change.text(f"{end}_node"), change.text(f"{end}_service"))
            for end in ("local", "remote")
        ]
        return change.number("phase"), *ends, change.text("auth"), []
    if change.kind is EventKind.JOB_COMPLETED:
        return (job_params(change.params("stats")),)
    if change.kind is EventKind.METADATA_CHANGE:
        return change.number("type"), change.text("uri") or None
    return tuple(change.values[name] for name in form.values)


def _change(kind: EventKind, values: list[Any]) -> Change:
    if kind is EventKind.GRAPHICS:
        phase, local, remote, auth, _subject = values
        found: dict[str, Any] = {"phase": phase}
        for name, end in (("local", local), ("remote", remote)):
            found |= dict(zip((f"{name}_family", f"{name}_node", f"{name}_service"), end, strict=True))
        return Change(kind, found | {"auth": auth})
    if kind is EventKind.JOB_COMPLETED:
        return Change(kind, {"stats": values_of(values[0])})  # type: ignore[dict-item]
    if kind is EventKind.METADATA_CHANGE:
        return Change(kind, {"type": values[0], "uri": values[1] or ""})
    return Change(kind, dict(zip(_FORMS[kind].values, values, strict=True)))
