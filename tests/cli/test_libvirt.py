"""import-libvirt and export-libvirt: what is shown, what is asked of the service."""

from __future__ import annotations

import json

from tests.cli.conftest import Cli

SHOWN = """Name:           new
UUID:           0f1aa1b6-1e2a-5cd2-9a7a-4a5a2ab4ad6d
Definition:     /lib/new.xml
Snapshots:      2
Current:        s2

s1
  |
  +- s2

 Snapshot   State     Kind
-----------------------------------------
 s1         running   external, with memory
 s2         shutoff   internal

 File     Format   Size          Later                       Path
---------------------------------------------------------------------
 image    qcow2    196.000 KiB   takes merges, stays         /i/a.qcow2
 image    qcow2    -             deleted when unused         /i/a.s1
 memory   raw      1.000 MiB     deleted with its snapshot   /i/s1.mem

"""


def test_taken_over(cli: Cli) -> None:
    said = cli.ok("import-libvirt", "new", "--dir", "/lib")
    uuid = said.split("UUID:")[1].split()[0]
    shown, done = said.split("Domain 'new' taken over with 2 snapshots\n")
    lines = SHOWN.replace("0f1aa1b6-1e2a-5cd2-9a7a-4a5a2ab4ad6d", uuid).splitlines()
    # The dashes are the table's own business.
    assert [line.rstrip() for line in shown.splitlines() if not line.startswith("--")] == [
        line for line in lines if not line.startswith("--")
    ]
    assert "it must not run this domain any more" in done
    assert "virsh undefine new --snapshots-metadata --managed-save --keep-nvram\n" in done
    assert cli.service.calls == [("import-libvirt", 0)]
    assert "new" in cli.ok("list", "--all", "--name")


def test_a_dry_run_only_looks(cli: Cli) -> None:
    said = cli.ok("import-libvirt", "new", "--dry-run", "--without-managed-save")
    assert "Notes:\n- managed save is left behind\n" in said
    assert said.endswith("Domain 'new' can be taken over (nothing has been done)\n\n")
    assert cli.service.calls == [("import-libvirt", 1)]


def test_every_reason_is_said(cli: Cli) -> None:
    result = cli("import-libvirt", "broken", "--dir", "/lib")
    assert result.status == 1
    assert result.out.startswith("Name:           broken\n")
    assert result.err == (
        "error: domain 'broken' cannot be taken over:\nerror: - image '/i/b' is gone\nerror: - no parent\n"
    )
    assert cli.service.calls == [("import-libvirt", 0), ("import-libvirt", 1)]


def test_json(cli: Cli) -> None:
    found = json.loads(cli.ok("import-libvirt", "new", "--json"))
    assert (found["name"], found["done"], found["problems"]) == ("new", True, [])
    assert found["snapshots"][1] == {
        "name": "s2",
        "parent": "s1",
        "state": "shutoff",
        "kind": "internal",
        "current": True,
    }
    assert [one["role"] for one in found["files"]] == ["origin", "overlay", "memory"]
    refused = cli("import-libvirt", "broken", "--json")
    assert refused.status == 1
    assert json.loads(refused.out)["problems"] == ["image '/i/b' is gone", "no parent"]
    assert json.loads(cli.ok("--json", "export-libvirt", "other", "--dry-run"))["done"] is False


def test_given_back(cli: Cli) -> None:
    said = cli.ok("export-libvirt", "other", "--dir", "/lib")
    assert "Domain 'other' written to /lib/other.xml\nlibvirtd reads it at its next start." in said
    assert "virtsnap undefine other --snapshots-metadata --managed-save --keep-nvram\n" in said
    assert cli.ok("export-libvirt", "other", "--dry-run").endswith(
        "Domain 'other' can be given back (nothing has been done)\n\n"
    )
    assert cli.fails("export-libvirt", "demo") == (
        "error: domain 'demo' cannot be given back to libvirt:\n"
        "error: - domain is running: shut it off first\n"
    )
    assert cli.fails("export-libvirt", "nope") == "error: failed to get domain 'nope'\n"


def test_read_only(cli: Cli) -> None:
    assert "read only access prevents import-libvirt" in cli.fails("-r", "import-libvirt", "new")
