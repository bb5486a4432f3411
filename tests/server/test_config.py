"""The configuration file and the program's options."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtsnap.daemon.config import BadConfig, Config, default, load
from virtsnap.daemon.main import main

BASE = Config(Path("/r"), Path("/s/sock"))


def test_a_file_says_what_is_different(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('root = "/srv"\nunix_sock_rw_perms = "0660"\nmax_clients = 7\n')
    config = load(file, BASE)
    assert (config.root, config.unix_sock_rw_perms, config.max_clients) == (Path("/srv"), 0o660, 7)
    assert config.readonly_socket == Path("/s/sock-ro")
    assert config.group is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour = 1", "there is no setting 'colour'"),
        ("root = 1", "root: a string is expected"),
        ('root = "x"', "root: an absolute path is expected"),
        ('unix_sock_ro_perms = "9"', "unix_sock_ro_perms: a mode"),
        ('unix_sock_ro_perms = "7777"', "unix_sock_ro_perms: a mode"),
        ("max_clients = 0", "max_clients: a number from 1"),
        ("max_clients = true", "max_clients: a number from 1"),
        ('unix_sock_group = "no such group"', "there is no group 'no such group'"),
        ("root = ", "line 1"),
    ],
)
def test_every_mistake_is_named(
    tmp_path: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text + "\n")
    with pytest.raises(BadConfig, match=said):
        load(file, BASE)
    assert main(["--check-config", "--config", str(file)]) == 1
    assert said in capsys.readouterr().err


def test_check_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.toml"
    file.write_text("max_clients = 3\n")
    assert main(["--check-config", "--config", str(file)]) == 0
    assert "all right" in capsys.readouterr().out
    assert main(["--check-config", "--config", str(tmp_path / "none")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_defaults_for_a_user_and_for_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    monkeypatch.setenv("XDG_DATA_HOME", "/home/u/.data")
    assert default(session=True) == Config(
        Path("/home/u/.data/virtsnap"), Path("/run/user/7/virtsnap/virtsnap-sock")
    )
    assert default(session=False).socket == Path("/run/virtsnap/virtsnap-sock")


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    assert "virsh -c 'qemu:///system?socket=" in capsys.readouterr().out
