"""All commands: group, name, one line of help, and the module that holds the rest.

A command's module is imported when the command is used, never to print a list of commands. The module
`M` of command `snapshot-list` has a dictionary `COMMANDS` with the key "snapshot-list".
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

from virtsnap.cli.spec import Command
from virtsnap.model.frozen import dataclass


@dataclass(frozen=True)
class Entry:
    """A line of the command list."""

    name: str
    help: str
    module: str


@dataclass(frozen=True)
class Group:
    """Commands of one subject; `keyword` is what `help` takes."""

    title: str
    keyword: str
    entries: tuple[Entry, ...]


GROUPS = (
    Group(
        "Domain Management",
        "domain",
        (
            Entry("autostart", "autostart a domain", "define"),
            Entry("blockcommit", "Start a block commit operation.", "block_jobs"),
            Entry("blockcopy", "Start a block copy operation.", "block_jobs"),
            Entry("blockjob", "Manage active block operations", "block_jobs"),
            Entry("blockpull", "Populate a disk from its backing image.", "block_jobs"),
            Entry("blockresize", "Resize block device of domain.", "block_devices"),
            Entry("clone", "make new domains of a snapshot", "clone"),
            Entry("console", "connect to the guest console", "console"),
            Entry("create", "create a domain from an XML file", "define"),
            Entry("define", "define (but don't start) a domain from an XML file", "define"),
            Entry("destroy", "destroy (stop) a domain", "lifecycle"),
            Entry("discard", "end a clone and delete all that was made for it", "clone"),
            Entry("domid", "convert a domain name or UUID to domain id", "names"),
            Entry("domjobabort", "abort active domain job", "jobs"),
            Entry("domjobinfo", "domain job information", "jobs"),
            Entry("domname", "convert a domain id or UUID to domain name", "names"),
            Entry("domrename", "rename a domain", "names"),
            Entry("domuuid", "convert a domain name or id to domain UUID", "names"),
            Entry("dumpxml", "domain information in XML", "dumpxml"),
            Entry("edit", "edit XML configuration for a domain", "edit"),
            Entry("event", "Domain Events", "event"),
            Entry("export-libvirt", "write a domain and its snapshots as libvirt keeps them", "libvirt"),
            Entry("flatten", "make disks independent of what they stand on", "flatten"),
            Entry("import-libvirt", "take over a domain of libvirt with its snapshots", "libvirt"),
            Entry("managedsave", "managed save of a domain state", "managedsave"),
            Entry(
                "managedsave-define", "redefine the XML for a domain's managed save state file", "managedsave"
            ),
            Entry(
                "managedsave-dumpxml",
                "Domain information of managed save state file in XML",
                "managedsave",
            ),
            Entry("managedsave-edit", "edit XML for a domain's managed save state file", "managedsave"),
            Entry("managedsave-remove", "Remove managed save of a domain", "managedsave"),
            Entry("qemu-agent-command", "QEMU Guest Agent Command", "qemu_commands"),
            Entry("qemu-monitor-command", "QEMU Monitor Command", "qemu_commands"),
            Entry("reboot", "reboot a domain", "lifecycle"),
            Entry("reset", "reset a domain", "lifecycle"),
            Entry("restore", "restore a domain from a saved state in a file", "save"),
            Entry("resume", "resume a domain", "lifecycle"),
            Entry("save", "save a domain state to a file", "save"),
            Entry("save-image-define", "redefine the XML for a domain's saved state file", "save_image"),
            Entry("save-image-dumpxml", "saved state domain information in XML", "save_image"),
            Entry("save-image-edit", "edit XML for a domain's saved state file", "save_image"),
            Entry(
                "screenshot",
                "take a screenshot of a current domain console and store it into a file",
                "screenshot",
            ),
            Entry("shutdown", "gracefully shutdown a domain", "lifecycle"),
            Entry("start", "start a (previously defined) inactive domain", "start"),
            Entry("suspend", "suspend a domain", "lifecycle"),
            Entry("ttyconsole", "tty console", "console"),
            Entry("undefine", "undefine a domain", "undefine"),
        ),
    ),
    Group(
        "Domain Monitoring",
        "monitor",
        (
            Entry("domblkerror", "Show errors on block devices", "block_devices"),
            Entry("domblkinfo", "domain block device size information", "blocks"),
            Entry("domblklist", "list all domain blocks", "blocks"),
            Entry("domblkstat", "get device block stats for a domain", "block_devices"),
            Entry("dominfo", "domain information", "dominfo"),
            Entry("domstate", "domain state", "domstate"),
            Entry("list", "list domains", "domain_list"),
        ),
    ),
    Group(
        "Host and Hypervisor",
        "host",
        (
            Entry("hostname", "print the hypervisor hostname", "host"),
            Entry("uri", "print the hypervisor canonical URI", "host"),
            Entry("version", "show version", "host"),
        ),
    ),
    Group(
        "Snapshot",
        "snapshot",
        (
            Entry("snapshot-create", "Create a snapshot from XML", "snapshot_create"),
            Entry("snapshot-create-as", "Create a snapshot from a set of args", "snapshot_create_as"),
            Entry("snapshot-current", "Get or set the current snapshot", "snapshot_current"),
            Entry("snapshot-delete", "Delete a domain snapshot", "snapshot_change"),
            Entry("snapshot-dumpxml", "Dump XML for a domain snapshot", "snapshot_show"),
            Entry("snapshot-edit", "edit XML for a snapshot", "snapshot_edit"),
            Entry("snapshot-info", "snapshot information", "snapshot_show"),
            Entry("snapshot-list", "List snapshots for a domain", "snapshot_list"),
            Entry("snapshot-parent", "Get the name of the parent of a snapshot", "snapshot_show"),
            Entry("snapshot-revert", "Revert a domain to a snapshot", "snapshot_change"),
        ),
    ),
    Group(
        "virtsnap itself",
        "virtsnap",
        (
            Entry("cd", "change the current directory", "itself"),
            Entry("echo", "echo arguments. Used for internal testing.", "itself"),
            Entry("exit", "quit this interactive terminal", "itself"),
            Entry("help", "print help", "help"),
            Entry("pwd", "print the current directory", "itself"),
            Entry("quit", "quit this interactive terminal", "itself"),
            Entry("connect", "(re)connect to hypervisor", "itself"),
        ),
    ),
)


def entry(name: str) -> Entry | None:
    """The entry of a command."""
    return next((one for group in GROUPS for one in group.entries if one.name == name), None)


def find(name: str) -> Command | None:
    """The command of that name, its module imported."""
    found = entry(name)
    if found is None:
        return None
    module = import_module(f"virtsnap.cli.commands.{found.module}")
    return cast("Command", module.COMMANDS[name])
