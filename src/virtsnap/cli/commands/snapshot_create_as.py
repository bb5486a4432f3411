"""snapshot-create-as: a snapshot from options."""

from __future__ import annotations

from virtsnap.cli.args import Args
from virtsnap.cli.commands.snapshot_create import OPTIONS, create
from virtsnap.cli.session import Session
from virtsnap.cli.spec import DOMAIN, DRY_RUN, JSON, Command, flag, many, string
from virtsnap.cli.specs import snapshot_xml


async def _snapshot_create_as(session: Session, args: Args) -> None:
    domain = await session.domain(args)
    xml = snapshot_xml(
        args.string("name"), args.string("description"), args.string("memspec"), args.many("diskspec")
    )
    if args.has("print-xml"):
        session.print(xml + "\n")
        return
    await create(session, args, domain, xml, None)


COMMANDS = {
    "snapshot-create-as": Command(
        _snapshot_create_as,
        (
            DOMAIN,
            string("name", "name of snapshot", tolerated=True),
            string("description", "description of snapshot", tolerated=True),
            flag("print-xml", "print XML document rather than create"),
            *OPTIONS,
            string(
                "memspec",
                "memory attributes: [file=]name[,snapshot=type][,mode=background|in-place|paused|stream]",
            ),
            many("diskspec", "disk attributes: disk[,snapshot=type][,driver=type][,stype=type][,file=name]"),
            DRY_RUN,
            JSON,
        ),
        "Create a snapshot (disk and RAM) from arguments",
        (
            "snapshot-create-as demo before-upgrade 'before the upgrade' --memspec /vm/before.mem",
            "snapshot-create-as demo disks --disk-only --diskspec vda,file=/vm/a.qcow2",
            "snapshot-create-as demo try --memspec /vm/try.mem --live --dry-run",
            "snapshot-create-as demo for-libvirt --memspec /vm/for-libvirt.mem,mode=stream",
        ),
    )
}
