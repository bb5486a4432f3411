from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from virtsnap.api.uri import EmbedTarget, default_root, parse_uri
from virtsnap.client.target import SocketTarget, SshTarget, TlsTarget
from virtsnap.model.errors import InvalidArg


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIRTSNAP_DEFAULT_URI", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/user")


def root_of(uri: str | None) -> Path:
    target = parse_uri(uri)
    assert isinstance(target, EmbedTarget)
    return target.root


def test_root_is_taken_from_the_query() -> None:
    assert root_of("qemu:///embed?root=/srv/vm") == Path("/srv/vm")


def test_percent_escapes_are_decoded() -> None:
    assert root_of("qemu:///embed?root=/srv/a%20b%2Fc%26d") == Path("/srv/a b/c&d")


def test_default_is_the_users_data_directory() -> None:
    assert root_of(None) == Path("/home/user/.local/share/virtsnap")
    assert root_of("") == root_of("qemu:///embed") == default_root()


def test_xdg_data_home_moves_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert root_of(None) == Path("/data/virtsnap")


def test_a_relative_xdg_data_home_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "data")
    assert root_of(None) == Path("/home/user/.local/share/virtsnap")


def test_the_environment_names_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTSNAP_DEFAULT_URI", "qemu:///embed?root=/elsewhere")
    assert root_of(None) == Path("/elsewhere")
    assert root_of("qemu:///embed?root=/here") == Path("/here")


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("qemu:///elsewhere", "no connection driver available for qemu:///elsewhere"),
        ("qemu+tcp://host/system", "clear text"),
        ("qemu+unix://host/system", "names a host"),
        ("qemu+tls:///system", "needs a host"),
        ("qemu+tls://host/system?pkipath=x", "not an absolute path"),
        ("qemu+tls://host/system?no_verify=x", "no_verify .* is not a number"),
        ("qemu+tls://host/system?tls_priority=x", "unknown parameter 'tls_priority'"),
        ("qemu+ssh:///system", "needs a host"),
        ("qemu+ssh://-oProxyCommand=x/system", "no connection driver available"),
        ("qemu+ssh://u;x@host/system", "no connection driver available"),
        ("qemu:///system?socket=x", "not an absolute path"),
        ("qemu:///system?sock=/x", "unknown parameter 'sock'"),
        ("qemu:///system?keyfile=/x", "unknown parameter 'keyfile'"),
        ("test:///default", "no connection driver available for test:///default"),
        ("nonsense", "does not include a driver name"),
        ("qemu:///embed?root=relative", "not an absolute path"),
        ("qemu:///embed?root=/a%00b", "NUL"),
        ("qemu:///embed?root=/a&roof=/b", "unknown parameter 'roof'"),
        ("qemu:///embed?root=/a&root=/b", "given twice"),
        ("qemu:///embed?root=/a#b", "fragment"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(uri: str, says: str) -> None:
    with pytest.raises(InvalidArg, match=says.replace("+", r"\+").replace("?", r"\?")):
        parse_uri(uri)


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        ("qemu:///system?socket=/x%20y", SocketTarget("/x y", "qemu:///system")),
        ("qemu+unix:///session?socket=/x", SocketTarget("/x", "qemu:///session")),
        ("qemu:///system", SocketTarget("/run/virtsnap/virtsnap-sock", "qemu:///system")),
        ("qemu:///session", SocketTarget("/run/user/7/virtsnap/virtsnap-sock", "qemu:///session", True)),
    ],
)
def test_daemons_of_this_host(monkeypatch: pytest.MonkeyPatch, uri: str, target: SocketTarget) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert parse_uri(uri) == target


def test_daemons_of_other_hosts_by_tls() -> None:
    name = "qemu:///system"
    assert parse_uri("qemu://far/system") == TlsTarget("far", 16514, name)
    assert parse_uri("qemu+tls://[::1]:7/system?pkipath=/p&no_verify=1&no_sanity=0") == TlsTarget(
        "::1", 7, name, "/p", verify=False
    )


def test_daemons_of_other_hosts() -> None:
    target = parse_uri("qemu+ssh://me@[fe80::1]:2222/system?socket=/a%20b&keyfile=/k")
    assert isinstance(target, SshTarget)
    assert target.name == "qemu:///system"
    assert target.command == (
        *("ssh", "-p", "2222", "-l", "me", "-i", "/k", "-T", "-e", "none", "--", "fe80::1"),
        target.command[-1],
    )
    assert _shell(target.command[-1]).endswith("exec nc $ARG -U '/a b'")


def _shell(command: str) -> str:
    """The script that the far end runs, whatever shell the account has there."""
    program, option, script = shlex.split(command)
    assert (program, option) == ("sh", "-c")
    return script


@pytest.mark.parametrize(
    ("query", "words", "end"),
    [
        ("no_tty=1", "-o BatchMode=yes", "exec nc $ARG -U /s"),
        ("no_verify=1", "-o StrictHostKeyChecking=no", "exec nc $ARG -U /s"),
        ("known_hosts_verify=auto", "-o StrictHostKeyChecking=accept-new", "exec nc $ARG -U /s"),
        ("known_hosts=/k%20n", "-o UserKnownHostsFile=/k n", "exec nc $ARG -U /s"),
        ("netcat=/x%20y/nc", "", "exec '/x y/nc' $ARG -U /s"),
        ("proxy=netcat", "", "exec nc $ARG -U /s"),
        ("proxy=native", "", "exec virt-ssh-helper 'qemu:///system?socket=%2Fs'"),
        ("proxy=auto", "", "exec nc $ARG -U /s"),
    ],
)
def test_what_ssh_is_told(query: str, words: str, end: str) -> None:
    target = parse_uri(f"qemu+ssh://h/system?socket=/s&command=/my/ssh&{query}")
    assert isinstance(target, SshTarget)
    assert target.command[0] == "/my/ssh"
    assert words in " ".join(target.command[:-1])
    assert _shell(target.command[-1]).endswith(end)


@pytest.mark.parametrize("query", ["proxy=x", "known_hosts_verify=x", "no_tty=x"])
def test_what_ssh_cannot_be_told(query: str) -> None:
    with pytest.raises(InvalidArg):
        parse_uri(f"qemu+ssh://h/system?{query}")
