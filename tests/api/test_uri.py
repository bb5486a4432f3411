from __future__ import annotations

from pathlib import Path

import pytest

from virtsnap.api.uri import default_root, parse_uri
from virtsnap.model.errors import InvalidArg


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIRTSNAP_DEFAULT_URI", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/user")


def test_root_is_taken_from_the_query() -> None:
    assert parse_uri("qemu:///embed?root=/srv/vm").root == Path("/srv/vm")


def test_percent_escapes_are_decoded() -> None:
    assert parse_uri("qemu:///embed?root=/srv/a%20b%2Fc%26d").root == Path("/srv/a b/c&d")


def test_default_is_the_users_data_directory() -> None:
    assert parse_uri(None).root == Path("/home/user/.local/share/virtsnap")
    assert parse_uri("").root == parse_uri("qemu:///embed").root == default_root()


def test_xdg_data_home_moves_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert parse_uri(None).root == Path("/data/virtsnap")


def test_a_relative_xdg_data_home_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "data")
    assert parse_uri(None).root == Path("/home/user/.local/share/virtsnap")


def test_the_environment_names_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTSNAP_DEFAULT_URI", "qemu:///embed?root=/elsewhere")
    assert parse_uri(None).root == Path("/elsewhere")
    assert parse_uri("qemu:///embed?root=/here").root == Path("/here")


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("qemu:///system", "no connection driver available for qemu:///system"),
        ("qemu+unix:///system?socket=/x", "no connection driver available"),
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
