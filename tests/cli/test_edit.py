"""edit and snapshot-edit with an editor that is a small script."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from virtsnap.model.errors import NoSupport, XmlInvalidSchema
from virtsnap.model.flags import DomainDefine
from virtsnap.service.interface import DomainHandle


@pytest.fixture(name="editor")
def _editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return monkeypatch


def test_a_domain_is_edited(cli: Cli, editor: pytest.MonkeyPatch, tmp_path: Path) -> None:
    editor.setenv("EDITOR", "sed -i 's/The demo/Our demo/'")
    assert cli.ok("edit", "demo") == "Domain 'demo' XML configuration edited.\n\n"
    assert "Our demo" in cli.ok("dumpxml", "demo")
    assert cli.ok("edit", "demo") == "Domain 'demo' XML configuration not changed.\n\n"
    editor.setenv("VISUAL", "sed -i 's/Our demo/A demo/'")
    assert cli.ok("edit", "demo", "--skip-validate") == "Domain 'demo' XML configuration edited.\n\n"
    assert cli.service.calls == [("define", DomainDefine.VALIDATE), ("define", 0)]
    assert list(tmp_path.iterdir()) == []


def test_refused_xml_changes_nothing(cli: Cli, editor: pytest.MonkeyPatch) -> None:
    editor.setenv("EDITOR", "sed -i s/domain/XX/")
    assert cli.fails("edit", "demo") == (
        "error: XML error: expecting root element of 'domain', not 'XX'\nerror: Failed.\n"
    )
    assert "The demo" in cli.ok("dumpxml", "demo")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_does_not_match_the_schema_may_be_forced(cli: Cli, editor: pytest.MonkeyPatch) -> None:
    define = cli.service.define_xml

    async def picky(xml: str, flags: int = 0) -> DomainHandle:
        if flags & DomainDefine.VALIDATE:
            raise XmlInvalidSchema("no")
        return await define(xml, flags)

    editor.setattr(cli.service, "define_xml", picky)
    editor.setenv("EDITOR", "sed -i 's/The demo/Our demo/'")
    editor.setattr("sys.stdin", Terminal("x\n?\ni\n"))
    result = cli("edit", "demo")
    prompt = "Failed. Try again? [y,n,i,f,?]: "
    assert result.out == (
        f"{prompt}{prompt}y - yes, start editor again\nn - no, throw away my changes\n"
        "i - turn off validation and try to redefine again\nf - force, try to redefine again\n"
        f"? - print this help\n{prompt}Domain 'demo' XML configuration edited.\n\n"
    )
    assert "Our demo" in cli.ok("dumpxml", "demo")


def test_without_a_schema_nothing_is_checked(cli: Cli, editor: pytest.MonkeyPatch) -> None:
    define = cli.service.define_xml

    async def unable(xml: str, flags: int = 0) -> DomainHandle:
        if flags & DomainDefine.VALIDATE:
            raise NoSupport("no schema")
        return await define(xml, flags)

    editor.setattr(cli.service, "define_xml", unable)
    editor.setenv("EDITOR", "sed -i 's/The demo/Our demo/'")
    assert cli.ok("edit", "demo") == "Domain 'demo' XML configuration edited.\n\n"


def test_an_editor_that_fails_changes_nothing(cli: Cli, editor: pytest.MonkeyPatch) -> None:
    editor.setenv("EDITOR", "false")
    assert cli.fails("edit", "demo") == "error: false exited with non-zero status 1\n"
    editor.setenv("EDITOR", "/nonexistent/editor")
    assert cli.fails("edit", "demo") == "error: /nonexistent/editor: No such file or directory\n"


def test_a_change_by_another_is_not_overwritten(cli: Cli, editor: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from virtsnap.cli import editor as module

    editor.setenv("EDITOR", "sed -i 's/The demo/Mine/'")
    run = module._run_editor

    def and_another(path: str) -> None:
        run(path)
        domain = next(one for one in cli.service.domains.values() if one.name == "demo")
        domain.xml = domain.xml.replace("The demo", "Theirs")

    editor.setattr(module, "_run_editor", and_another)
    assert cli.fails("edit", "demo") == (
        "error: the XML configuration was changed by another user\nerror: Failed.\n"
    )
    assert "Theirs" in cli.ok("dumpxml", "demo")


@pytest.fixture(name="with_snapshot")
def _with_snapshot(cli: Cli) -> Cli:
    cli.ok("snapshot-create-as demo foo hi; snapshot-create-as demo kid")
    return cli


def test_a_snapshot_is_edited(with_snapshot: Cli, editor: pytest.MonkeyPatch) -> None:
    editor.setenv("EDITOR", "sed -i s/hi/ho/")
    assert with_snapshot.ok("snapshot-edit", "demo", "foo") == "Snapshot foo edited.\n\n"
    assert "<description>ho</description>" in with_snapshot.ok("snapshot-dumpxml", "demo", "foo")
    assert with_snapshot.ok("snapshot-edit", "demo", "foo") == (
        "Snapshot foo XML configuration not changed.\n\n"
    )
    assert with_snapshot.ok("-q", "snapshot-current", "demo", "--name") == "kid"
    assert with_snapshot.ok("snapshot-edit", "demo", "foo", "--current") == "Snapshot foo edited.\n\n"
    assert with_snapshot.ok("-q", "snapshot-current", "demo", "--name") == "foo"


def test_a_snapshot_is_cloned_and_renamed(with_snapshot: Cli, editor: pytest.MonkeyPatch) -> None:
    editor.setenv("EDITOR", "sed -i s/foo/bar/")
    assert with_snapshot.fails("snapshot-edit", "demo", "foo") == (
        "error: Must use --rename or --clone to change foo to bar\nerror: Failed to update foo\n"
    )
    assert with_snapshot.fails("snapshot-edit", "demo", "foo", "--rename", "--clone") == (
        "error: Options --rename and --clone are mutually exclusive\n"
    )
    assert with_snapshot.ok("snapshot-edit", "demo", "foo", "--clone") == "Snapshot foo cloned to bar.\n\n"
    assert with_snapshot.ok("-q", "snapshot-list", "demo", "--name").split() == ["bar", "foo", "kid"]
    editor.setenv("EDITOR", "sed -i s/foo/baz/")
    assert with_snapshot.ok("snapshot-edit", "demo", "foo", "--rename") == "\n"
    assert with_snapshot.ok("-q", "snapshot-list", "demo", "--name").split() == ["bar", "baz", "kid"]
