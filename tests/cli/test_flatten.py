"""flatten, domblklist --chain, and the hint that there are many layers."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Cli


def test_what_is_to_be_flattened_must_be_said(cli: Cli) -> None:
    assert cli.fails("flatten", "demo") == "error: --disk or --all is required\n"
    assert cli.fails("flatten", "demo", "vda", "--all") == (
        "error: Options --disk and --all are mutually exclusive\n"
    )
    assert cli.fails("flatten", "nope", "vda") == "error: failed to get domain 'nope'\n"


def test_disks_are_flattened(cli: Cli) -> None:
    assert cli.ok("flatten", "demo", "vda") == "Domain 'demo' disk vda flattened\n\n"
    assert cli.ok("flatten", "demo", "vda", "vdb") == "Domain 'demo' disk vda, vdb flattened\n\n"
    cli.ok("snapshot-create-as", "demo", "s1")
    assert "stands on what snapshots need" in cli.fails("flatten", "demo", "--all")
    assert cli.ok("flatten", "demo", "--all", "--copy") == "Domain 'demo' all disks flattened\n\n"
    assert "read only access" in cli.fails("-r", "flatten", "demo", "--all")


def test_the_plan(cli: Cli) -> None:
    said = cli.ok("flatten", "demo", "vda", "--dry-run")
    assert said.startswith("Plan: flatten disk 'vda' (nothing has been done)\nMakes:\n  -\n")
    assert json.loads(cli.ok("flatten", "demo", "vda", "--dry-run", "--json"))["operation"] == "flatten"


def test_layers_are_shown(cli: Cli) -> None:
    cli.ok("snapshot-create-as", "demo", "s1")
    assert cli.ok("domblklist", "demo", "--chain") == (
        " Target   Layer   Allocation    Snapshot   Source\n"
        f"{70 * '-'}\n"
        " vda      0       196.000 KiB   -          /images/demo-vda.qcow2.s1\n"
        " vda      1       196.000 KiB   s1         /images/demo-vda.qcow2\n\n"
    )
    [disk] = json.loads(cli.ok("domblklist", "demo", "--chain", "--json"))
    assert (disk["target"], disk["depth"], disk["chain"][1]["snapshots"]) == ("vda", 2, ["s1"])
    assert "mutually exclusive" in cli.fails("domblklist", "demo", "--chain", "--details")


def test_many_layers_bring_a_hint_to_a_terminal(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(29):
        cli.ok("snapshot-create-as", "demo", f"s{number}")
    assert cli("snapshot-create-as", "demo", "into-a-file").err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    said = cli("snapshot-create-as", "demo", "seen").err
    assert said.endswith(
        "hint: disk vda is read from 32 images; 'virtsnap flatten demo vda --copy' makes it one, "
        "and the snapshots keep theirs\n"
    )
    assert "hint" not in cli("-q", "snapshot-create-as", "demo", "quiet").err
