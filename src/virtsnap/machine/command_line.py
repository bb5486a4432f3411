"""QEMU's command line for a completed definition: all that the guest can see is as libvirt 11.3 writes it.

Where we differ the guest cannot tell: monitors and the TPM are passed as descriptors, the process ends by
itself when the guest powers off (libvirt holds it for its daemon), and raw images have a format node of their
own.

Not here: opening descriptors, starting the process (`qemu`), and defaults (`complete`).
"""

from __future__ import annotations

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.machine import (
    aliases,
    board_args,
    boot_order,
    chardev_args,
    device_args,
    disk_args,
    options,
    tpm,
    tree,
)
from virtsnap.machine.launch import CommandLine, Launch, Layer
from virtsnap.machine.support import COMMANDLINE, QEMU_NAMESPACE, check_supported

_FILE_HAS_INPUT = (8, 1, 0)
"""The QEMU from which on a character device of kind file can be read from, too."""

__all__ = ["CommandLine", "Launch", "Layer", "command_line"]


def command_line(definition: DomainDefinition, launch: Launch) -> CommandLine:
    """How to start `definition`, which must be completed.

    Raises ConfigUnsupported, naming what this engine or this QEMU cannot do.
    """
    check_supported(definition)
    definition = aliases.with_aliases(definition)
    root = definition.element
    boot = boot_order.boot_indexes(root)
    indexes = disk_args.node_indexes(definition.disks, launch.chains)
    characters = chardev_args.character_args(root, launch)
    emulator = tree.text(root, "devices/emulator") or ""
    argv = [emulator, *board_args.head(definition, launch)]
    if next(tree.children(root, "graphics"), None) is None:
        argv += ["-display", "none"]
    argv += ["-no-user-config", "-nodefaults", *_monitors(launch)]
    argv += board_args.tail(definition, launch)
    argv += device_args.controller_args(root)
    argv += device_args.hub_args(root)
    for disk in tree.children(root, "disk"):
        argv += disk_args.disk_args(root, disk, launch, indexes, boot.get(disk))
    argv += device_args.interface_args(root, boot)
    argv += characters.argv
    argv += tpm.tpm_args(root, launch)
    argv += device_args.input_args(root)
    argv += device_args.display_args(root)
    argv += device_args.sound_args(root)
    argv += device_args.watchdog_args(root)
    argv += device_args.balloon_args(root)
    argv += device_args.rng_args(root)
    if launch.seccomp:
        argv += ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    argv += device_args.panic_args(root)
    if launch.incoming:
        argv += ["-incoming", "defer"]
    argv += ["-msg", "timestamp=on"]
    given = root.find(COMMANDLINE)
    env: dict[str, str] = {}
    if given is not None:
        argv += [e.get("value", "") for e in given.iterfind(f"{{{QEMU_NAMESPACE}}}arg")]
        for variable in given.iterfind(f"{{{QEMU_NAMESPACE}}}env"):
            env[variable.get("name", "")] = variable.get("value", "")
    return CommandLine(
        argv=tuple(argv),
        env=env,
        chardevs=characters.chardevs,
        sockets=characters.sockets,
        node_indexes=indexes,
        commands=tuple(device_args.later_commands(root, launch)),
    )


def _monitors(launch: Launch) -> list[str]:
    argv: list[str] = []
    for name, fd in (("monitor", launch.monitor_fd), ("query", launch.query_fd)):
        if fd is not None:
            argv += ["-chardev", f"socket,id=char{name},fd={fd},server=on,wait=off"]
            argv += ["-mon", f"chardev=char{name},id={name},mode=control"]
    if launch.events_path is not None and launch.hello_path is not None:
        events, hello = options.escape(launch.events_path), options.escape(launch.hello_path)
        device = f"file,id=charevents,path={events},input-path={hello},append=on"
        if launch.qemu_version < _FILE_HAS_INPUT:
            # Despite its name it takes plain files: PATH.in and PATH.out, which must be there.
            device = f"pipe,id=charevents,path={events}"
        argv += ["-chardev", device]
        argv += ["-mon", "chardev=charevents,id=events,mode=control"]
    return argv
