"""list: domains, as a table or as bare names, ids, uuids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from virtsnap.cli.args import Args
from virtsnap.cli.commands.domstate import STATES
from virtsnap.cli.session import Session
from virtsnap.cli.spec import JSON, Command, flag
from virtsnap.cli.table import table
from virtsnap.model.domain import DomainState
from virtsnap.model.flags import DomainList
from virtsnap.model.frozen import dataclass

if TYPE_CHECKING:
    from virtsnap.service.interface import DomainHandle

_FILTERS: dict[str, int] = {
    "transient": DomainList.TRANSIENT,
    "persistent": DomainList.PERSISTENT,
    "with-snapshot": DomainList.HAS_SNAPSHOT,
    "without-snapshot": DomainList.NO_SNAPSHOT,
    "with-checkpoint": DomainList.HAS_CHECKPOINT,
    "without-checkpoint": DomainList.NO_CHECKPOINT,
    "state-running": DomainList.RUNNING,
    "state-paused": DomainList.PAUSED,
    "state-shutoff": DomainList.SHUTOFF,
    "state-other": DomainList.OTHER,
    "autostart": DomainList.AUTOSTART,
    "no-autostart": DomainList.NO_AUTOSTART,
    "with-managed-save": DomainList.MANAGEDSAVE,
    "without-managed-save": DomainList.NO_MANAGEDSAVE,
}


@dataclass(frozen=True)
class _Row:
    id: int | None
    name: str
    uuid: str
    state: str = ""
    title: str = ""


async def _list(session: Session, args: Args) -> None:
    for bare in ("name", "uuid", "id"):
        args.exclusive("table", bare)
    word = args.flags(_FILTERS)
    inactive = args.has("inactive") or args.has("state-shutoff")
    if not inactive or args.has("all"):
        word |= DomainList.ACTIVE
    if inactive or args.has("all"):
        word |= DomainList.INACTIVE
    service = await session.service()
    handles = sorted(await service.list_domains(word), key=_order)
    if args.has("uuid") or args.has("name") or args.has("id"):
        session.print("".join(_bare(handle, args) for handle in handles))
        return
    rows = [await _row(session, handle, args) for handle in handles]
    if session.wants_json(args):
        session.json([_facts(row, args) for row in rows])
        return
    header = ["Id", "Name", "State"] + (["Title"] if args.has("title") else [])
    cells = [
        ["-" if row.id is None else str(row.id), row.name, row.state]
        + ([row.title] if args.has("title") else [])
        for row in rows
    ]
    session.print(table(header, cells, quiet=session.settings.quiet))


def _order(handle: DomainHandle) -> tuple[bool, int, bytes]:
    # virsh: active ones by id, then the others by name, ASCII letters without regard to case.
    return (handle.id is None, handle.id or 0, handle.name.encode("utf-8", "surrogateescape").lower())


def _bare(handle: DomainHandle, args: Args) -> str:
    words = []
    if args.has("uuid"):
        words.append(handle.uuid)
    if args.has("id"):
        if handle.id is None and not args.has("uuid") and not args.has("name"):
            return ""
        words.append("-" if handle.id is None else str(handle.id))
    if args.has("name"):
        words.append(handle.name)
    return " ".join(words) + "\n"


async def _row(session: Session, handle: DomainHandle, args: Args) -> _Row:
    service = await session.service()
    state, _ = await service.domain_state(handle.uuid)
    words = STATES[state]
    if args.has("managed-save") and state is DomainState.SHUTOFF:
        facts = await service.domain_info(handle.uuid)
        words = "saved" if facts.managed_save else words
    title = _title(await service.domain_xml(handle.uuid)) if args.has("title") else ""
    return _Row(handle.id, handle.name, handle.uuid, words, title)


def _title(xml: str) -> str:
    from xml.etree import ElementTree

    return ElementTree.fromstring(xml).findtext("title") or ""


def _facts(row: _Row, args: Args) -> dict[str, object]:
    facts: dict[str, object] = {"id": row.id, "name": row.name, "uuid": row.uuid, "state": row.state}
    if args.has("title"):
        facts["title"] = row.title
    return facts


COMMANDS = {
    "list": Command(
        _list,
        (
            flag("inactive", "list inactive domains"),
            flag("all", "list inactive & active domains"),
            flag("transient", "list transient domains"),
            flag("persistent", "list persistent domains"),
            flag("with-snapshot", "list domains with existing snapshot"),
            flag("without-snapshot", "list domains without a snapshot"),
            flag("with-checkpoint", "list domains with existing checkpoint"),
            flag("without-checkpoint", "list domains without a checkpoint"),
            flag("state-running", "list domains in running state"),
            flag("state-paused", "list domains in paused state"),
            flag("state-shutoff", "list domains in shutoff state"),
            flag("state-other", "list domains in other states"),
            flag("autostart", "list domains with autostart enabled"),
            flag("no-autostart", "list domains with autostart disabled"),
            flag("with-managed-save", "list domains with managed save state"),
            flag("without-managed-save", "list domains without managed save"),
            flag("uuid", "list uuid's only"),
            flag("name", "list domain names only"),
            flag("id", "list domain IDs only"),
            flag("table", "list table (default)"),
            flag("managed-save", "mark inactive domains with managed save state"),
            flag("title", "show domain title"),
            JSON,
        ),
        "Returns list of domains.",
        ("list --all", "list --name --state-running"),
    )
}
