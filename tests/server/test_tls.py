"""Clients of other hosts: TCP with TLS, certificates on both sides."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import daemon
from tests.parity import oracle
from tests.server.certificates import Authority
from virtsnap.api.connect import open_service
from virtsnap.client.tls import Credentials, client_context, client_credentials, cut_off, server_context
from virtsnap.daemon.main import main
from virtsnap.model.errors import VirtsnapError
from virtsnap.server import tls
from virtsnap.server.tls import TlsDoor, TlsListener, distinguished_name, listen_tcp

ALICE = "/C=GB/O=Lab, Inc/OU=a=b <x>/CN=alice/emailAddress=a@b"
LEFT_OUT = "server verification (of our certificate or IP address) failed"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@dataclass
class Pki:
    """Who is who: `ca` is the daemon's, alice may come in."""

    ca: Authority
    other: Authority
    server: Path
    alice: Path

    @property
    def settings(self) -> str:
        key = self.server.with_name("server-key.pem")
        return f'ca_file = "{self.ca.certificate}"\ncert_file = "{self.server}"\nkey_file = "{key}"\n'

    @property
    def credentials(self) -> Credentials:
        return Credentials(self.ca.certificate, self.server, self.server.with_name("server-key.pem"))


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    folder = tmp_path_factory.mktemp("pki")
    ca, other = Authority(folder), Authority(folder, "other")
    return Pki(ca, other, ca.server("server", "DNS:localhost"), ca.client("alice", ALICE))


@dataclass
class Far:
    """A daemon that listens for TLS."""

    folder: Path
    port: int

    def uri(self, pki: Path, more: str = "", host: str = "localhost") -> str:
        return f"qemu+tls://{host}:{self.port}/system?pkipath={pki}{more}"

    def said(self) -> str:
        return (self.folder / "sock.log").read_text()


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[Far]:
    where = Far(tmp_path_factory.mktemp("far"), free_port())
    config = where.folder / "virtsnapd.toml"
    config.write_text(
        f'listen_tls = 1\nlisten_addr = "localhost"\ntls_port = "{where.port}"\n{pki.settings}'
        'tls_allowed_dn_list = ["C=FR,*", "C=GB,O=Lab\\\\, Inc,OU=*,CN=alice,*"]\n'
    )
    process = daemon.start(where.folder / "root", where.folder / "sock", "--config", str(config))
    try:
        yield where
    finally:
        daemon.stop(process)
    assert "Traceback" not in where.said()


def virsh(uri: str, *words: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("virsh") is None:
        pytest.skip("no virsh here (script/setup --with-parity installs it)")
    return subprocess.run(
        ["virsh", "-c", uri, *words], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.real
async def test_certificates_are_read_again_at_a_signal(pki: Pki, tmp_path: Path) -> None:
    files = pki.credentials
    key, crl = tmp_path / "key.pem", tmp_path / "crl.pem"
    shutil.copy(files.key or "", key)
    here = Far(tmp_path, free_port())
    config = tmp_path / "virtsnapd.toml"
    config.write_text(
        f'listen_tls = 1\nlisten_addr = "localhost"\ntls_port = "{here.port}"\nkey_file = "{key}"\n'
        f'ca_file = "{files.ca}"\ncert_file = "{files.certificate}"\ncrl_file = "{crl}"\n'
    )
    dora = pki.ca.client("dora", "/CN=dora")
    shutil.copy(pki.ca.revoked(pki.ca.client("eve", "/CN=eve") / "clientcert.pem"), crl)
    process = daemon.start(tmp_path / "root", tmp_path / "sock", "--config", str(config), "-v")
    try:
        early = await open_service(here.uri(dora))
        shutil.copy(pki.ca.revoked(dora / "clientcert.pem"), crl)
        hang_up(process, here, "the certificates were read again")
        with pytest.raises(VirtsnapError):
            await open_service(here.uri(dora))
        assert await early.list_domains() == []
        await early.close()
        key.write_text("nonsense")
        hang_up(process, here, "the certificates stay what they were: ")
        late = await open_service(here.uri(pki.alice))
        assert await late.list_domains() == []
        await late.close()
    finally:
        daemon.stop(process)
    assert "Traceback" not in here.said()


def hang_up(process: subprocess.Popen[bytes], where: Far, says: str) -> None:
    """Send the signal, and return when the daemon has said that."""
    process.send_signal(signal.SIGHUP)
    words = ["tail", "-c", "+1", "-f", f"{where.folder}/sock.log"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        for line in tail.stdout:
            if says in line:
                break
        tail.terminate()


@pytest.mark.real
async def test_clients_with_a_certificate_come_in(far: Far, pki: Pki) -> None:
    xml = "<domain type='qemu'><name>far</name><memory>32768</memory><os><type>hvm</type></os></domain>"
    service = await open_service(far.uri(pki.alice))
    try:
        handle = await service.define_xml(xml)
        assert "far" in virsh(far.uri(pki.alice), "list", "--all", "--name").stdout
        done = virsh(far.uri(pki.alice), "-r", "undefine", "far")
        assert "read only access prevents virDomainUndefineFlags" in done.stderr
        await service.undefine(handle.uuid, 0)
    finally:
        await service.close()


@pytest.mark.real
@pytest.mark.parametrize(
    ("who", "says", "logged"),
    [
        ("nobody", LEFT_OUT, "PEER_DID_NOT_RETURN_A_CERTIFICATE"),
        ("mallory", LEFT_OUT, "self-signed certificate in certificate chain"),
        ("late", LEFT_OUT, "certificate has expired"),
        ("bob", LEFT_OUT, "not in tls_allowed_dn_list: O=Lab,CN=bob"),
        ("elsewhere", "Certificate [session] owner does not match the hostname 127.0.0.1", ""),
        ("doubter", "authentication failed: Failed to verify peer's certificate", ""),
    ],
)
async def test_others_do_not_and_hurt_nobody(
    far: Far, pki: Pki, tmp_path: Path, who: str, says: str, logged: str
) -> None:
    ca = Authority(tmp_path / "new") if who == "doubter" else pki.ca
    homes = {
        "nobody": lambda: ca.stranger("pki-nobody"),
        "mallory": lambda: pki.other.client("mallory", "/O=Lab/CN=alice", trusts=(pki.ca, pki.other)),
        "late": lambda: ca.client("late", ALICE, days=-1),
        "bob": lambda: ca.client("bob", "/O=Lab/CN=bob"),
        "elsewhere": lambda: pki.alice,
        "doubter": lambda: ca.client("doubter", ALICE),
    }
    service = await open_service(far.uri(pki.alice))
    try:
        uri = far.uri(homes[who](), "&no_sanity=1", "127.0.0.1" if who == "elsewhere" else "localhost")
        with pytest.raises(VirtsnapError) as refused:
            await open_service(uri)
        assert says in str(refused.value)
        assert virsh(uri, "list").returncode == 1
        assert await service.list_domains() == []
        assert logged in far.said()
    finally:
        await service.close()


@pytest.mark.real
async def test_a_server_that_is_not_verified(far: Far, pki: Pki) -> None:
    service = await open_service(far.uri(pki.alice, "&no_verify=1", "127.0.0.1"))
    assert await service.list_domains() == []
    await service.close()


async def test_what_a_client_may_lack(pki: Pki, tmp_path: Path) -> None:
    with pytest.raises(VirtsnapError, match=f"Cannot read CA certificate '{tmp_path}/cacert.pem': No such"):
        await open_service(f"qemu+tls://localhost:1/system?pkipath={tmp_path}")
    with pytest.raises(VirtsnapError, match="unable to connect to server at 'localhost:1': Connection ref"):
        await open_service(f"qemu+tls://localhost:1/system?pkipath={pki.alice}")
    late = pki.ca.client("too-late", ALICE, days=-1)
    with pytest.raises(VirtsnapError, match=f"The client certificate {late}/clientcert.pem has expired"):
        await open_service(f"qemu+tls://localhost:1/system?pkipath={late}")
    stranger = pki.other.client("unknown", ALICE, trusts=(pki.ca,))
    with pytest.raises(VirtsnapError, match=r"Our own certificate .* failed validation against"):
        await open_service(f"qemu+tls://localhost:1/system?pkipath={stranger}")


# --- the listening side by itself ---------------------------------------------------------------------------


class Inside:
    """A listener whose clients are answered with one word."""

    def __init__(self, door: TlsDoor) -> None:
        (sock,) = listen_tcp("127.0.0.1", "0")
        self.port: int = sock.getsockname()[1]
        self._listener = TlsListener(sock, door, self._met)

    async def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"welcome")
        writer.close()

    async def plain(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def greeting(self, context: ssl.SSLContext) -> bytes:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=context, server_hostname="localhost"
        )
        try:
            return await reader.read()
        finally:
            writer.close()

    async def __aenter__(self) -> Inside:
        return self

    async def __aexit__(self, *error: object) -> None:
        self._listener.close()


@pytest.mark.parametrize("said", [b"", b"\0\0\0\x1c\x20\0\x80\x86\0\0\0\1", b"GET / HTTP/1.0\r\n\r\n"])
async def test_who_does_not_shake_hands_is_closed(
    pki: Pki, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_SECONDS", 0.1)
    async with Inside(TlsDoor(server_context(pki.credentials))) as inside:
        reader, writer = await inside.plain()
        writer.write(said)
        assert b"welcome" not in await reader.read()
        writer.close()


async def test_few_wait_outside_and_the_next_one_comes_in_when_they_are_gone(pki: Pki) -> None:
    door = TlsDoor(server_context(pki.credentials), waiting_max=2)
    context = client_context(client_credentials(pki.alice))
    async with Inside(door) as inside:
        assert await inside.greeting(context) == b"\1welcome"
        silent = [await inside.plain() for _ in range(2)]
        late = asyncio.create_task(inside.greeting(context))
        done, _ = await asyncio.wait({late}, timeout=0.05)
        assert not done
        silent[0][1].close()
        assert await late == b"\1welcome"
        silent[1][1].close()


async def test_a_connection_that_is_closed_already_can_be_cut_off(pki: Pki) -> None:
    context = client_context(client_credentials(pki.alice))
    async with Inside(TlsDoor(server_context(pki.credentials))) as inside:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", inside.port, ssl=context, server_hostname="localhost"
        )
        writer.close()
        writer.close()
        cut_off(writer)
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_a_certificate_that_was_revoked(pki: Pki) -> None:
    crl = pki.ca.revoked(pki.alice / "clientcert.pem")
    carol = pki.ca.client("carol", "/CN=carol")
    files = Credentials(pki.ca.certificate, pki.server, pki.server.with_name("server-key.pem"), crl)
    async with Inside(TlsDoor(server_context(files))) as inside:
        assert await inside.greeting(client_context(client_credentials(carol))) == b"\1welcome"
        assert await inside.greeting(client_context(client_credentials(pki.alice))) == b""


async def test_without_verification_everybody_comes_in(pki: Pki) -> None:
    door = TlsDoor(server_context(pki.credentials, verify=False))
    nobody = client_context(Credentials(pki.ca.certificate, None, None))
    assert nobody.minimum_version == door.context.minimum_version == ssl.TLSVersion.TLSv1_2
    async with Inside(door) as inside:
        assert await inside.greeting(nobody) == b"\1welcome"


def test_distinguished_names_are_written_as_libvirts_program_shows_them(pki: Pki) -> None:
    made = {"subject": ((("countryName", "GB"),), (("organizationName", "Lab, Inc"),))}
    assert distinguished_name(made) == "C=GB,O=Lab\\, Inc"
    assert distinguished_name({"subject": ((("commonName", "a"), ("userId", "b")),)}) == "CN=a+UID=b"
    assert distinguished_name({"subject": ((("commonName", "x,O=Lab"),),)}) == "CN=x\\,O=Lab"
    assert distinguished_name({"subject": ((("jurisdictionLocalityName", "x"),),)}) is None
    assert distinguished_name({}) is None
    program = shutil.which("virt-pki-query-dn")
    if program is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(pki.ca.certificate)
        said = subprocess.run([program, pki.ca.certificate], capture_output=True, text=True, check=True)
        assert said.stdout.strip() == distinguished_name(context.get_ca_certs()[0]) == "O=Lab,CN=ca"


def test_ports_that_cannot_be_had() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(VirtsnapError, match="Unable to bind to port: Address already in use"),
    ):
        listen_tcp("127.0.0.1", str(taken.getsockname()[1]))
    with pytest.raises(VirtsnapError, match=r"Unable to resolve address 'no\.such\.invalid' service '1'"):
        listen_tcp("no.such.invalid", "1")


# --- the configuration --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("listen_tls = 2", "listen_tls: true or false"),
        ("listen_tcp = 1", "nothing is said in clear text"),
        ('tls_port = "x"', "tls_port: a port"),
        ('tls_allowed_dn_list = "x"', "tls_allowed_dn_list: a list of strings"),
        ("tls_no_verify_certificate = true\ntls_allowed_dn_list = []", "nobody's name is known"),
        ('listen_tls = true\ncert_file = "/x"', "No CA certificate path set to match server key/cert"),
        ('listen_tls = true\nca_file = "/x"', "No server certificate path set to match server key"),
        (
            'listen_tls = true\nca_file = "/x"\ncert_file = "/y"',
            "No server key path set to match server cert",
        ),
        (
            'listen_tls = true\nca_file = "/x"\ncert_file = "/y"\nkey_file = "/z"',
            "Cannot read CA certificate '/x': No such file",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text + "\n")
    assert main(["--check-config", "--config", str(file)]) == 1
    assert said in capsys.readouterr().err


def test_files_are_looked_at(tmp_path: Path, pki: Pki, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.toml"
    file.write_text(f"listen_tls = true\n{pki.settings}")
    assert main(["--check-config", "--config", str(file)]) == 0
    assert main(["--check-config", "--session", "--config", str(file)]) == 1
    assert "a user's own daemon does not listen" in capsys.readouterr().err
    file.write_text(f"listen_tls = true\n{pki.settings}".replace("server-key", "ca-key"))
    assert main(["--check-config", "--config", str(file)]) == 1
    assert "Unable to set x509 key and certificate" in capsys.readouterr().err
    other = pki.other.certificate
    file.write_text(f'listen_tls = true\n{pki.settings}crl_file = "/none"\n')
    assert main(["--check-config", "--config", str(file)]) == 1
    assert "Cannot read certificate revocation list '/none'" in capsys.readouterr().err
    settings = pki.settings.replace(str(pki.ca.certificate), str(other))
    file.write_text(f"listen_tls = true\n{settings}")
    assert main(["--check-config", "--config", str(file)]) == 1
    assert f"Our own certificate {pki.server} failed validation against {other}" in capsys.readouterr().err
    file.write_text(f"listen_tls = true\ntls_no_sanity_certificate = 1\n{settings}")
    assert main(["--check-config", "--config", str(file)]) == 0


# --- real libvirtd ------------------------------------------------------------------------------------------


@pytest.mark.parity
async def test_a_real_libvirtd_is_reached_as_well(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> None:
    reason = oracle.missing()
    if reason is not None:
        pytest.skip(reason)
    folder, port = tmp_path_factory.mktemp("o"), free_port()
    oracle.let_in(folder)
    settings = pki.settings.replace(str(pki.ca.folder), str(folder / "pki"))
    config = f'listen_tls = 1\nlisten_addr = "localhost"\ntls_port = "{port}"\n{settings}'
    shutil.copytree(pki.ca.folder, folder / "pki")
    config += 'tls_allowed_dn_list = ["*,CN=alice,*"]\n'
    with oracle.running(folder, config, "--listen"):
        service = await open_service(f"qemu+tls://localhost:{port}/session?pkipath={pki.alice}")
        assert await service.list_domains() == []
        await service.close()
        for name in ("bob", "nobody"):
            home = pki.ca.client("bob2", "/CN=bob") if name == "bob" else pki.ca.stranger("pki-nobody2")
            with pytest.raises(VirtsnapError, match="server verification"):
                await open_service(f"qemu+tls://localhost:{port}/session?pkipath={home}")
