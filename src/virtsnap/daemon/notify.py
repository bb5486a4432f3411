"""What systemd wants to hear, and the sockets that it hands over. Nothing happens without it."""

from __future__ import annotations

import logging
import os
import socket

_FIRST = 3


def notify(*states: str) -> None:
    """Tell the service manager, as sd_notify(3) does: READY=1, STOPPING=1, STATUS=..."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.connect(address)
            sock.sendall("\n".join(states).encode())
        except OSError as error:
            # Whoever wanted to know is gone: no reason to stop serving others.
            logging.getLogger("virtsnap").info("cannot notify '%s': %s", address, error.strerror)


def handed_over() -> list[tuple[str, socket.socket]]:
    """Listening sockets and their FileDescriptorName, as sd_listen_fds_with_names(3) has them."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(os.environ.get("LISTEN_FDS", "0"))
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    found = []
    for index in range(count):
        sock = socket.socket(fileno=_FIRST + index)
        sock.setblocking(False)
        os.set_inheritable(sock.fileno(), False)
        found.append((names[index] if index < len(names) else f"fd{index}", sock))
    return found
