"""A daemon of another host by way of ssh: a real sshd, with keys and files of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.server.conftest import Served
from virtsnap.api.connect import open_service
from virtsnap.model.errors import VirtsnapError

pytestmark = pytest.mark.real
_CONFIG = """Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/me.pub
PidFile none
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
"""


@dataclass
class Far:
    """Where the sshd listens, with everything that a client needs."""

    folder: Path
    port: int

    def uri(self, socket: Path, more: str = "") -> str:
        me = f"{getpass.getuser()}@127.0.0.1:{self.port}"
        wanted = f"socket={socket}&keyfile={self.folder}/me&command={self.folder}/ssh&no_tty=1"
        return f"qemu+ssh://{me}/system?{wanted}{more}"


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    sshd = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if sshd is None or not shutil.which("ssh-keygen") or not shutil.which("nc"):
        pytest.skip("no sshd or no nc here")
    folder = tmp_path_factory.mktemp("ssh")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for key in ("host", "me"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    host_key = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    (folder / "config").write_text(f"UserKnownHostsFile {folder}/known\nIdentitiesOnly yes\n")
    (folder / "ssh").write_text(f'#!/bin/sh\nexec ssh -F {folder}/config "$@"\n')
    (folder / "ssh").chmod(0o700)
    (folder / "sshd").write_text(_CONFIG.format(port=port, folder=folder))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with subprocess.Popen(
        [sshd, "-D", "-e", "-f", folder / "sshd"], stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        said = []
        for line in server.stderr:
            said.append(line)
            if "Server listening" in line:
                break
        else:
            pytest.fail(f"sshd does not start: {said}")
        yield Far(folder, port)
        server.terminate()


@pytest.mark.parametrize("more", ["", "&netcat=nc&no_verify=1", "&proxy=auto", "&known_hosts_verify=auto"])
async def test_a_daemon_is_reached(far: Far, served: Served, more: str) -> None:
    service = await open_service(far.uri(served.socket, more))
    assert await service.list_domains() == []
    await service.close()


@pytest.mark.parametrize("more", ["", "&proxy=netcat", "&proxy=auto"])
def test_virsh_reaches_it_too(far: Far, served: Served, more: str) -> None:
    if shutil.which("virsh") is None:
        pytest.skip("no virsh here (script/setup --with-parity installs it)")
    words = ["virsh", "-c", far.uri(served.socket, more), "uri"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


async def test_who_is_not_reached_says_why(far: Far, served: Served, tmp_path: Path) -> None:
    with pytest.raises(VirtsnapError, match=r"End of file while reading data: nc: .*: No such file"):
        await open_service(far.uri(served.folder / "nope"))
    (tmp_path / "known").write_text("")
    with pytest.raises(VirtsnapError, match="Host key verification failed"):
        await open_service(far.uri(served.socket, f"&known_hosts={tmp_path}/known"))
    with pytest.raises(VirtsnapError, match="Connection refused"):
        await open_service(far.uri(served.socket).replace(f":{far.port}/", ":1/"))
    with pytest.raises(VirtsnapError, match="cannot run '/nope': No such file"):
        await open_service(f"qemu+ssh://127.0.0.1/system?socket={served.socket}&command=/nope")
