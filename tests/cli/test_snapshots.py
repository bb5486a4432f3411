"""Commands about snapshots."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from virtsnap.model.flags import SnapshotCreate, SnapshotDelete, SnapshotRevert


@pytest.fixture(name="tree")
def _tree(cli: Cli) -> Cli:
    """base - {left - deep, right}, with right current."""
    cli.ok(
        "snapshot-create-as demo base; snapshot-create-as demo Left --memspec /m; "
        "snapshot-create-as demo deep --disk-only; snapshot-revert demo base; snapshot-create-as demo right"
    )
    return cli


def test_create_from_options(cli: Cli) -> None:
    assert cli.ok("snapshot-create-as", "demo", "s1", "desc") == "Domain snapshot s1 created\n"
    assert cli.ok("-q", "snapshot-create-as", "demo", "s2") == ""
    assert cli.ok("snapshot-create-as", "demo", "--json") == '{\n  "name": "1700000002"\n}\n'
    assert cli.fails("snapshot-create-as", "demo", "s1") == (
        "error: operation failed: domain moment s1 already exists\n"
    )
    assert cli.fails("snapshot-create-as", "nodom", "s1") == "error: failed to get domain 'nodom'\n"
    assert cli.fails("snapshot-create-as", "demo", "") == (
        "error: Failed to get option 'name': Option argument is empty\n"
    )
    assert "invalid snapshot name 'a/b'" in cli.fails("snapshot-create-as", "demo", "a/b")


def test_create_passes_every_flag_on(cli: Cli) -> None:
    words = "--no-metadata --halt --disk-only --reuse-external --quiesce --atomic --live --validate"
    cli.ok(f"snapshot-create-as demo s {words}")
    wanted = SnapshotCreate(1023) & ~(SnapshotCreate.REDEFINE | SnapshotCreate.CURRENT)
    assert cli.service.calls[-1] == ("snapshot-create", wanted)


def test_print_xml_creates_nothing(cli: Cli) -> None:
    assert cli.ok("snapshot-create-as", "demo", "s1", "--print-xml") == (
        "<domainsnapshot>\n  <name>s1</name>\n</domainsnapshot>\n\n\n"
    )
    assert cli.service.calls == []
    assert cli.fails("snapshot-create-as", "nodom", "--print-xml") == "error: failed to get domain 'nodom'\n"


def test_create_from_a_file(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "s.xml"
    file.write_text("<domainsnapshot><name>foo</name></domainsnapshot>")
    assert cli.ok("snapshot-create", "demo", str(file)) == f"Domain snapshot foo created from '{file}'\n"
    assert cli.ok("snapshot-create", "demo") == "Domain snapshot 1700000001 created\n"
    assert cli.fails("snapshot-create", "demo", "/nonexistent") == (
        "error: Failed to open file '/nonexistent': No such file or directory\n"
    )
    file.write_text("<domain/>")
    assert cli.fails("snapshot-create", "demo", str(file)) == (
        "error: XML error: expecting root element of 'domainsnapshot', not 'domain'\n"
    )
    assert cli.fails("snapshot-create", "demo", "--current").startswith("error: Flag 'VIR_DOMAIN_SNAPSHOT_")


def test_list_as_a_table(tree: Cli) -> None:
    assert tree.ok("snapshot-list", "demo", "--parent") == (
        " Name    Creation Time               State           Parent\n"
        "-------------------------------------------------------------\n"
        " base    2023-11-14 22:13:20 +0000   running         \n"
        " deep    2023-11-14 22:13:22 +0000   disk-snapshot   Left\n"
        " Left    2023-11-14 22:13:21 +0000   running         base\n"
        " right   2023-11-14 22:13:23 +0000   running         base\n"
        "\n"
    )
    assert (
        tree.ok("-q", "snapshot-list", "demo", "--roots") == " base   2023-11-14 22:13:20 +0000   running\n"
    )
    assert tree.ok("snapshot-list", "other") == (
        " Name   Creation Time   State\n-------------------------------\n\n"
    )


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ("", "base deep Left right"),
        ("--topological", "base Left deep right"),
        ("--leaves", "deep right"),
        ("--no-leaves", "base Left"),
        ("--active", "base Left right"),
        ("--inactive", ""),
        ("--disk-only", "deep"),
        ("--external", "Left"),
        ("--internal", "base deep right"),
        ("--metadata", "base deep Left right"),
        ("--no-metadata", ""),
        ("--from base", "Left right"),
        ("--from base --descendants", "deep Left right"),
        ("--from base --descendants --leaves", "deep right"),
        ("--current", ""),
    ],
)
def test_list_filters(tree: Cli, options: str, names: str) -> None:
    assert tree.ok("-q", f"snapshot-list demo --name {options}").split() == names.split()


def test_list_names_with_parents(tree: Cli) -> None:
    assert tree.ok("snapshot-list", "demo", "--name", "--parent") == (
        "base\ndeep\tLeft\nLeft\tbase\nright\tbase\n\n"
    )


def test_list_as_a_tree(tree: Cli) -> None:
    assert tree.ok("snapshot-list", "demo", "--tree") == (
        "base\n  |\n  +- Left\n  |   |\n  |   +- deep\n  |     \n  +- right\n    \n\n"
    )
    assert tree.ok("snapshot-list", "demo", "--tree", "--from", "base") == (
        "base\n  |\n  +- Left\n  +- right\n    \n\n"
    )
    assert tree.ok("snapshot-list", "demo", "--tree", "--current", "--descendants") == "right\n\n\n"
    assert tree.ok("snapshot-list", "other", "--tree") == "\n"


def test_list_as_json(tree: Cli) -> None:
    rows = json.loads(tree.ok("snapshot-list", "demo", "--json"))
    assert [(row["name"], row["parent"], row["current"]) for row in rows] == [
        ("base", None, False),
        ("deep", "Left", False),
        ("Left", "base", False),
        ("right", "base", True),
    ]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--tree --name", "Options --tree and --name are mutually exclusive"),
        ("--parent --roots", "Options --parent and --roots are mutually exclusive"),
        ("--parent --tree", "Options --parent and --tree are mutually exclusive"),
        ("--roots --tree", "Options --roots and --tree are mutually exclusive"),
        ("--roots --from x", "Options --roots and --from are mutually exclusive"),
        ("--roots --current", "Options --roots and --current are mutually exclusive"),
        ("--tree --leaves", "--leaves and --tree are mutually exclusive"),
        ("--tree --external", "--external and --tree are mutually exclusive"),
        ("--from x --current", "--from and --current are mutually exclusive"),
        ("--descendants", "--descendants requires either --from or --current"),
        ("--from nope", "Domain snapshot not found: no domain snapshot with matching name 'nope'"),
    ],
)
def test_list_conflicts(cli: Cli, options: str, says: str) -> None:
    assert cli.fails(f"snapshot-list demo {options}") == f"error: {says}\n"


def test_info(tree: Cli) -> None:
    assert tree.ok("snapshot-info", "demo", "base") == (
        "Name:           base\n"
        "Domain:         demo\n"
        "Current:        no\n"
        "State:          running\n"
        "Location:       internal\n"
        "Parent:         -\n"
        "Children:       2\n"
        "Descendants:    3\n"
        "Metadata:       yes\n"
        "\n"
    )
    assert "Location:       external\n" in tree.ok("snapshot-info", "demo", "Left")
    assert tree.ok("snapshot-info", "demo", "--current").startswith("Name:           right\n")
    assert json.loads(tree.ok("snapshot-info", "demo", "base", "--json"))["descendants"] == 3


@pytest.mark.parametrize("command", ["info", "parent", "revert", "delete", "edit"])
def test_which_snapshot_must_be_said(cli: Cli, command: str) -> None:
    assert cli.fails(f"snapshot-{command}", "demo") == "error: --snapshotname or --current is required\n"
    if command != "edit":
        assert cli.fails(f"snapshot-{command}", "demo", "s", "--current") == (
            "error: --snapshotname and --current are mutually exclusive\n"
        )
    assert cli.fails(f"snapshot-{command}", "demo", "s") == (
        "error: Domain snapshot not found: no domain snapshot with matching name 's'\n"
    )
    assert cli.fails(f"snapshot-{command}", "demo", "") == (
        "error: Failed to get option 'snapshotname': Option argument is empty\n"
    )


def test_parent_and_current(tree: Cli) -> None:
    assert tree.ok("snapshot-parent", "demo", "deep") == "Left\n"
    assert tree.ok("snapshot-parent", "demo", "--current") == "base\n"
    assert tree.fails("snapshot-parent", "demo", "base") == "error: snapshot 'base' has no parent\n"
    assert tree.ok("snapshot-current", "demo", "--name") == "right\n"
    assert tree.ok("snapshot-current", "demo").startswith("<domainsnapshot>\n  <name>right</name>\n")
    assert tree.ok("snapshot-current", "demo", "deep") == "Snapshot deep set as current\n"
    assert tree.service.calls[-1] == (
        "snapshot-create",
        SnapshotCreate.REDEFINE | SnapshotCreate.CURRENT | SnapshotCreate.DISK_ONLY,
    )
    assert tree.ok("snapshot-current", "demo", "--name") == "deep\n"
    assert tree.fails("snapshot-current", "other") == "error: domain 'other' has no current snapshot\n"
    assert tree.fails("snapshot-current", "demo", "--name", "x") == (
        "error: Options --name and --snapshotname are mutually exclusive\n"
    )


def test_dumpxml(tree: Cli) -> None:
    assert tree.ok("snapshot-dumpxml", "demo", "deep", "--xpath", "//parent/name") == "<name>Left</name>\n\n"
    assert tree.fails("snapshot-dumpxml", "demo") == (
        "error: command 'snapshot-dumpxml' requires <snapshotname> option\n"
    )


def test_revert(tree: Cli) -> None:
    assert tree.ok("snapshot-revert", "demo", "deep") == "Domain snapshot deep reverted\n\n"
    tree.ok("snapshot-revert", "demo", "--current", "--paused", "--reset-nvram")
    assert tree.service.calls[-1] == ("revert", SnapshotRevert.PAUSED | SnapshotRevert.RESET_NVRAM)
    assert tree.fails("snapshot-revert", "demo", "deep", "--running", "--paused") == (
        "error: Failed to revert snapshot deep\n"
        "error: Flags 'VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING' and 'VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED' are "
        "mutually exclusive\n"
    )


def test_force_is_used_only_when_it_is_needed(tree: Cli) -> None:
    tree.ok("snapshot-revert", "demo", "deep", "--force")
    assert tree.service.calls[-1] == ("revert", 0)
    tree.service.risky.add("deep")
    assert "revert requires force: " in tree.fails("snapshot-revert", "demo", "deep")
    tree.ok("snapshot-revert", "demo", "deep", "--force")
    assert tree.service.calls[-2:] == [("revert", 0), ("revert", SnapshotRevert.FORCE)]


def test_delete(tree: Cli) -> None:
    assert tree.ok("snapshot-delete", "demo", "Left") == "Domain snapshot Left deleted\n\n"
    assert tree.ok("snapshot-parent", "demo", "deep") == "base\n"
    assert tree.ok("snapshot-delete", "demo", "base", "--children-only") == (
        "Domain snapshot base children deleted\n\n"
    )
    tree.ok("snapshot-delete", "demo", "--current", "--metadata", "--children")
    assert tree.service.calls[-1] == ("delete", SnapshotDelete.METADATA_ONLY | SnapshotDelete.CHILDREN)
    assert tree.ok("snapshot-list", "demo", "--name") == "\n"


def test_delete_says_both_lines(tree: Cli) -> None:
    assert tree.fails("snapshot-delete", "demo", "base", "--children", "--children-only").startswith(
        "error: Failed to delete snapshot base\nerror: Flags 'VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN' and"
    )


def test_dry_run_prints_the_plan(tree: Cli) -> None:
    assert tree.ok("snapshot-create-as", "demo", "next", "--dry-run") == (
        "Plan: create snapshot 'next' (nothing has been done)\n"
        "Makes:\n"
        "  /images/demo-vda.next\n"
        "Removes:\n"
        "  -\n"
        "Merges:\n"
        "  -\n"
        "Guest pause: none\n"
        "Steps:\n"
        "  1. create overlay\n"
        "  2. switch layers\n"
        "  3. put snapshot\n"
        "\n"
    )
    assert "Plan: revert snapshot 'base'" in tree.ok("snapshot-revert", "demo", "base", "--dry-run")
    plan = json.loads(tree.ok("snapshot-delete", "demo", "base", "--dry-run", "--json"))
    assert (plan["operation"], plan["merges"]) == ("delete", ["vda: a into b (1 MiB)"])
    assert tree.ok("-q", "snapshot-list", "demo", "--name").split() == ["base", "deep", "Left", "right"]


def test_two_hundred_snapshots_are_drawn(cli: Cli) -> None:
    cli.ok("-q", ";".join(f"snapshot-create-as other s{n}" for n in range(200)))
    assert cli.ok("snapshot-list", "other", "--tree").count("+- ") == 199
