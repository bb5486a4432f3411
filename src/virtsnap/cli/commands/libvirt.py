"""import-libvirt and export-libvirt: a domain comes from a real libvirt with its tree, and goes back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Protocol

from virtsnap.cli.args import Args
from virtsnap.cli.errors import CliError
from virtsnap.cli.session import Session
from virtsnap.cli.spec import DOMAIN, DRY_RUN, JSON, Command, flag, positional, string
from virtsnap.cli.table import info, pretty_bytes, printable, table
from virtsnap.cli.tree import forest
from virtsnap.model.errors import OperationInvalid
from virtsnap.model.libvirt import LibvirtReport

_LATER = {
    "overlay": "deleted when unused",
    "memory": "deleted with its snapshot",
    "nvram": "deleted with its snapshot",
    "origin": "takes merges, stays",
    "base": "never touched",
}


class Call(Protocol):
    """A call of the service with all but one argument given."""

    async def __call__(self, *, dry_run: bool) -> LibvirtReport: ...


async def _import(session: Session, args: Args) -> None:
    service = await session.service()
    name = args.required("domain")
    dry_run = args.has("dry-run")

    async def call(*, dry_run: bool) -> LibvirtReport:
        report = await service.import_libvirt(
            name,
            dir=args.string("dir"),
            definitions=args.string("definitions"),
            run_dir=args.string("run-dir"),
            leave_save=args.has("without-managed-save"),
            dry_run=dry_run,
            progress=session.progress,
        )
        session.end_progress()
        return report

    what = f"domain '{name}' cannot be taken over"
    report = await _asked(session, args, call, what, dry_run=dry_run)
    if session.wants_json(args):
        return
    if dry_run:
        session.extra(f"Domain '{name}' can be taken over (nothing has been done)\n")
        return
    session.extra(
        f"Domain '{name}' taken over with {len(report.snapshots)} snapshots\n"
        "libvirt's own files are as they were: it must not run this domain any more. To have it forget the\n"
        f"domain and leave the images alone: virsh undefine {name} --snapshots-metadata --managed-save "
        "--keep-nvram\n"
    )


async def _export(session: Session, args: Args) -> None:
    domain = await session.domain(args)
    service = await session.service()
    dry_run = args.has("dry-run")

    async def call(*, dry_run: bool) -> LibvirtReport:
        report = await service.export_libvirt(
            domain.uuid,
            dir=args.string("dir"),
            definitions=args.string("definitions"),
            run_dir=args.string("run-dir"),
            dry_run=dry_run,
            progress=session.progress,
        )
        session.end_progress()
        return report

    what = f"domain '{domain.name}' cannot be given back to libvirt"
    report = await _asked(session, args, call, what, dry_run=dry_run)
    if session.wants_json(args):
        return
    if dry_run:
        session.extra(f"Domain '{domain.name}' can be given back (nothing has been done)\n")
        return
    session.extra(
        f"Domain '{domain.name}' written to {report.definition}\n"
        "libvirtd reads it at its next start. The domain is still defined here: run it in one place only.\n"
        f"To forget it here: virtsnap undefine {domain.name} --snapshots-metadata --managed-save "
        "--keep-nvram\n"
    )


async def _asked(session: Session, args: Args, call: Call, what: str, *, dry_run: bool) -> LibvirtReport:
    """Do it and show what was found; or everything that was found, and every reason why it was not done."""
    try:
        report = await call(dry_run=dry_run)
    except OperationInvalid:
        report = await call(dry_run=True)
        if not report.problems:
            raise
    done = not dry_run and not report.problems
    _show(session, args, report, done=done)
    if report.problems:
        raise CliError(f"{what}:", *(f"- {printable(problem)}" for problem in report.problems))
    return report


def _show(session: Session, args: Args, report: LibvirtReport, *, done: bool) -> None:
    if session.wants_json(args):
        session.json({**asdict(report), "done": done})
        return
    current = next((one.name for one in report.snapshots if one.current), None)
    text = info("Name:", printable(report.name)) + info("UUID:", report.uuid or "-")
    text += info("Definition:", printable(report.definition))
    text += info("Snapshots:", len(report.snapshots)) + info("Current:", printable(current or "-")) + "\n"
    if report.snapshots:
        text += forest(
            {printable(one.name): one.parent and printable(one.parent) for one in report.snapshots}
        )
        rows = [(one.name, one.state, one.kind) for one in report.snapshots]
        text += table(("Snapshot", "State", "Kind"), rows) + "\n"
    if report.files:
        files = [
            (
                one.kind,
                one.format or "-",
                pretty_bytes(one.size) if one.size else "-",
                _later(one.role),
                one.path,
            )
            for one in report.files
        ]
        text += table(("File", "Format", "Size", "Later", "Path"), files) + "\n"
    if report.notes:
        text += "Notes:\n" + "".join(f"- {printable(note)}\n" for note in report.notes) + "\n"
    session.print(text)


def _later(role: str) -> str:
    return _LATER.get(role, role)


_FOLDERS = (
    string(
        "dir", "libvirt's folder with snapshot/ and save/ (default: the system's as root, else the session's)"
    ),
    string(
        "definitions", "folder with NAME.xml (default: /etc/libvirt/qemu for the system's, else as --dir)"
    ),
    string("run-dir", "folder that tells which domains are active (default: by --dir, if known)"),
)

COMMANDS = {
    "import-libvirt": Command(
        _import,
        (
            positional("domain", "name of a domain in libvirt", required=True),
            *_FOLDERS,
            flag("without-managed-save", "leave the managed save behind"),
            DRY_RUN,
            JSON,
        ),
        "Take over a domain of a real libvirt with its whole snapshot tree, from libvirt's files on disk.\n"
        "Every file of every chain is checked first; whatever is wrong is said at once and nothing is done.\n"
        "libvirt's own files stay as they are: it must not run the domain any more.",
        (
            "import-libvirt demo --dry-run",
            "import-libvirt demo",
            "import-libvirt demo --dir ~/.config/libvirt/qemu",
            "import-libvirt demo --dir /mnt/old/var/lib/libvirt/qemu --definitions /mnt/old/etc/libvirt/qemu",
        ),
    ),
    "export-libvirt": Command(
        _export,
        (DOMAIN, *_FOLDERS, DRY_RUN, JSON),
        "Write a domain that is shut off, with its whole snapshot tree, as libvirt keeps it on disk.\n"
        "libvirtd reads it at its next start. What libvirt cannot express is named, or refused where it\n"
        "would ruin something. Files of another domain are never written over.",
        (
            "export-libvirt demo --dry-run",
            "export-libvirt demo",
            "export-libvirt demo --dir ~/.config/libvirt/qemu",
        ),
    ),
}
