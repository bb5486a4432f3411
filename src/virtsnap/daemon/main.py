"""virtsnapd: serves one root folder over libvirt's protocol, in the foreground, until SIGTERM or SIGINT.

At SIGHUP it reads its certificates again.

Exit status: 0 after a clean end, 1 when it cannot start (the reason is on stderr), 2 for wrong options.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from virtsnap import __version__
from virtsnap.daemon import heap
from virtsnap.daemon.config import BadConfig, Config, default, load
from virtsnap.daemon.notify import handed_over, notify
from virtsnap.model.errors import VirtsnapError
from virtsnap.server.daemon import Daemon, Door, Limits, awake, listen
from virtsnap.server.tls import listen_tcp

logger = logging.getLogger("virtsnap")
SYSTEM_CONFIG = Path("/etc/virtsnap/virtsnapd.toml")

_EPILOG = """examples:
  virtsnapd --root /tmp/vm --socket /tmp/vm/sock     one for a test, in the foreground
  virsh -c 'qemu:///system?socket=/tmp/vm/sock' list --all
  virtsnapd --check-config                           is the configuration all right?
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program with the given words (default: those of the process)."""
    options = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="virtsnapd: %(message)s", stream=sys.stderr)
    # It logs as errors what its callers know how to handle.
    logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL + 1)
    logging.getLogger("virtsnap").setLevel(logging.DEBUG if options.verbose else logging.WARNING)
    try:
        config = _config(options)
        config.check(session=options.session)
        if options.check_config:
            sys.stdout.write("the configuration is all right\n")
            return 0
        heap.settle()
        return asyncio.run(_serve(config, session=_is_session(options), timeout=options.timeout))
    except (BadConfig, VirtsnapError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="virtsnapd",
        description="Serve virtsnap's domains to virsh, libvirt-python and virt-manager, "
        "over libvirt's own protocol.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--root", type=Path, metavar="DIR", help="the folder with everything in it")
    parser.add_argument("--socket", type=Path, metavar="PATH", help="where to listen; PATH-ro is read-only")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help=f"configuration (default: {SYSTEM_CONFIG} if it is there)"
    )
    parser.add_argument("--session", action="store_true", help="for this user alone (default unless root)")
    parser.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="end when nobody has been here for so long"
    )
    parser.add_argument("--check-config", action="store_true", help="is the configuration all right?")
    parser.add_argument("-v", "--verbose", action="store_true", help="say more on stderr")
    parser.add_argument("-V", "--version", action="version", version=f"virtsnapd {__version__}")
    return parser


def _is_session(options: argparse.Namespace) -> bool:
    return bool(options.session or os.geteuid() != 0)


def _config(options: argparse.Namespace) -> Config:
    session = _is_session(options)
    config = default(session=session)
    if options.config is not None:
        config = load(options.config, config)
    elif not session and SYSTEM_CONFIG.exists():
        config = load(SYSTEM_CONFIG, config)
    if options.root is not None:
        config = replace(config, root=options.root.absolute())
    if options.socket is not None:
        config = replace(config, socket=options.socket.absolute())
    return config


async def _serve(config: Config, *, session: bool, timeout: float | None) -> int:
    from virtsnap.service.local import open_local
    from virtsnap.service.storage import Storage

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    service = await open_local(config.root)
    storage = Storage(config.root)
    daemon = Daemon(
        service,
        await open_local(config.root, readonly=True),
        storage,
        Storage(config.root, readonly=True),
        default_uri="qemu:///session" if session else "qemu:///system",
        users=frozenset({0, os.geteuid()}) if config.unix_sock_group is None else None,
        limits=Limits(clients=config.max_clients),
    )
    if not session:  # a user's own has none, and ends with the terminal it was started in
        loop.add_signal_handler(signal.SIGHUP, _renew_tls, daemon, config)
    doors, made = _doors(config)
    try:
        await awake(service)
        storage.autostart()
        await daemon.open(doors)
        notify("READY=1", f"STATUS=serving {config.root}")
        await service.autostart_domains()
        # What is here now stays. Without it the collector looks everywhere more often, and is sooner done.
        gc.collect()
        gc.freeze()
        await _end(daemon, stop, timeout)
        notify("STOPPING=1")
    finally:
        await daemon.close()
        for path in made:
            path.unlink(missing_ok=True)
    return 0


def _renew_tls(daemon: Daemon, config: Config) -> None:
    """Read the certificates again. Files that cannot be used change nothing."""
    if not daemon.listens_tls:
        return
    try:
        daemon.renew_tls(config.tls_door)
    except BadConfig as error:
        logger.warning("the certificates stay what they were: %s", error)
    else:
        logger.info("the certificates were read again")


async def _end(daemon: Daemon, stop: asyncio.Event, timeout: float | None) -> None:
    """Return when somebody wants it to end, or nobody has wanted anything for `timeout` seconds."""
    loop = asyncio.get_running_loop()
    while timeout is not None:
        left = daemon.busy_until + timeout - loop.time()
        if left <= 0 and daemon.idle:
            return
        try:
            async with asyncio.timeout(max(left, 1.0)):
                await stop.wait()
                return
        except TimeoutError:
            continue
    await stop.wait()


def _doors(config: Config) -> tuple[list[Door], list[Path]]:
    """Sockets from systemd, else our own, with the paths that are ours to remove."""
    given = handed_over()
    doors = [
        Door(sock, readonly=name.endswith("-ro"), tls=config.tls_door if name.endswith("-tls") else None)
        for name, sock in given
    ]
    if config.listen_tls and not any(door.tls for door in doors):
        tls = config.tls_door
        doors += [Door(sock, tls=tls) for sock in listen_tcp(config.listen_addr, config.tls_port)]
    if given:
        return doors, []
    made = []
    for path, mode, readonly in (
        (config.socket, config.unix_sock_rw_perms, False),
        (config.readonly_socket, config.unix_sock_ro_perms, True),
    ):
        doors.append(Door(listen(path, mode=mode, group=config.group), readonly))
        made.append(path)
    return doors, made


if __name__ == "__main__":
    sys.exit(main())
