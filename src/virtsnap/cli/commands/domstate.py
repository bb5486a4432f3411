"""domstate, and virsh's words for states and reasons, which other commands show too."""

from __future__ import annotations

from virtsnap.cli.args import Args
from virtsnap.cli.session import Session
from virtsnap.cli.spec import DOMAIN, JSON, Command, flag
from virtsnap.model.domain import DomainState, Reason

STATES = {
    DomainState.NOSTATE: "no state",
    DomainState.RUNNING: "running",
    DomainState.BLOCKED: "idle",
    DomainState.PAUSED: "paused",
    DomainState.SHUTDOWN: "in shutdown",
    DomainState.SHUTOFF: "shut off",
    DomainState.CRASHED: "crashed",
    DomainState.PMSUSPENDED: "pmsuspended",
}

_REASONS = {
    Reason.RUNNING_BOOTED: "booted",
    Reason.RUNNING_MIGRATED: "migrated",
    Reason.RUNNING_RESTORED: "restored",
    Reason.RUNNING_FROM_SNAPSHOT: "from snapshot",
    Reason.RUNNING_UNPAUSED: "unpaused",
    Reason.RUNNING_MIGRATION_CANCELED: "migration canceled",
    Reason.RUNNING_SAVE_CANCELED: "save canceled",
    Reason.RUNNING_WAKEUP: "event wakeup",
    Reason.RUNNING_CRASHED: "crashed",
    Reason.PAUSED_USER: "user",
    Reason.PAUSED_MIGRATION: "migrating",
    Reason.PAUSED_SAVE: "saving",
    Reason.PAUSED_DUMP: "dumping",
    Reason.PAUSED_IOERROR: "I/O error",
    Reason.PAUSED_WATCHDOG: "watchdog",
    Reason.PAUSED_FROM_SNAPSHOT: "from snapshot",
    Reason.PAUSED_SHUTTING_DOWN: "shutting down",
    Reason.PAUSED_SNAPSHOT: "creating snapshot",
    Reason.PAUSED_CRASHED: "crashed",
    Reason.PAUSED_STARTING_UP: "starting up",
    Reason.SHUTDOWN_USER: "user",
    Reason.SHUTOFF_SHUTDOWN: "shutdown",
    Reason.SHUTOFF_DESTROYED: "destroyed",
    Reason.SHUTOFF_CRASHED: "crashed",
    Reason.SHUTOFF_MIGRATED: "migrated",
    Reason.SHUTOFF_SAVED: "saved",
    Reason.SHUTOFF_FAILED: "failed",
    Reason.SHUTOFF_FROM_SNAPSHOT: "from snapshot",
    Reason.SHUTOFF_DAEMON: "daemon",
    Reason.CRASHED_PANICKED: "panicked",
}


def reason_text(reason: Reason) -> str:
    """virsh's words; all the ..._UNKNOWN are 'unknown'."""
    return _REASONS.get(reason, "unknown")


async def _domstate(session: Session, args: Args) -> None:
    domain = await session.domain(args)
    service = await session.service()
    state, reason = await service.domain_state(domain.uuid)
    if session.wants_json(args):
        session.json({"state": STATES[state], "reason": reason_text(reason)})
    elif args.has("reason"):
        session.print(f"{STATES[state]} ({reason_text(reason)})\n")
    else:
        session.print(f"{STATES[state]}\n")


COMMANDS = {
    "domstate": Command(
        _domstate,
        (DOMAIN, flag("reason", "also print reason for the state"), JSON),
        "Returns state about a domain.",
        ("domstate demo", "domstate demo --reason"),
    )
}
