"""Commands about domains: definitions, life, facts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from virtsnap.cli.commands.domstate import STATES, reason_text
from virtsnap.model.domain import DomainState, Reason
from virtsnap.model.flags import ShutdownMethod


def test_list_shows_active_ones_by_id_then_the_others_by_name(cli: Cli) -> None:
    cli.service.add("Alpha")
    cli.service.add("zulu", running=True)
    assert cli.ok("list", "--all") == (
        " Id   Name    State\n"
        "------------------------\n"
        " 1    demo    running\n"
        " 2    zulu    running\n"
        " -    Alpha   shut off\n"
        " -    other   shut off\n"
        "\n"
    )


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ("", "demo"),
        ("--inactive", "other"),
        ("--all", "demo other"),
        ("--all --state-running", "demo"),
        ("--all --state-shutoff", "other"),
        ("--all --state-other", ""),
        ("--all --with-snapshot", "demo"),
        ("--all --without-snapshot", "other"),
        ("--all --transient", ""),
        ("--all --persistent --no-autostart --without-managed-save --without-checkpoint", "demo other"),
    ],
)
def test_list_filters(cli: Cli, options: str, names: str) -> None:
    cli.ok("snapshot-create-as", "demo", "s")
    assert cli.ok("-q", f"list --name {options}").split() == names.split()


def test_list_in_bare_forms(cli: Cli) -> None:
    uuid = cli.ok("-q", "domuuid", "demo").strip()
    assert cli.ok("list --all --name") == "demo\nother\n\n"
    assert cli.ok("list --all --id") == "1\n\n"
    assert cli.ok("list --name --id --uuid") == f"{uuid} 1 demo\n\n"
    assert cli.ok("-q", "list") == " 1   demo   running\n"
    assert cli.ok("list --title").splitlines()[2] == " 1    demo   running   The demo"
    assert cli.fails("list", "--table", "--name") == (
        "error: Options --table and --name are mutually exclusive\n"
    )


def test_list_as_json(cli: Cli) -> None:
    (row,) = json.loads(cli.ok("--json", "list"))
    assert (row["id"], row["name"], row["state"]) == (1, "demo", "running")
    assert json.loads(cli.ok("list", "--json", "--title"))[0]["title"] == "The demo"


def test_a_domain_is_found_by_id_uuid_and_name(cli: Cli) -> None:
    uuid = cli.ok("-q", "domuuid", "demo").strip()
    assert cli.ok("-q", f"domname 1; domname {uuid}; domid {uuid}; domuuid 1") == f"demo\ndemo\n1\n{uuid}\n"
    for words in (["domname", "demo"], ["domuuid", uuid], ["domid", "1"], ["start", "1"], ["reset", "x"]):
        assert cli.fails(*words) == f"error: failed to get domain '{words[1]}'\n"
    cli.service.add("77", running=True)
    assert cli.ok("-q", "domuuid", "77") == cli.service.add("77").uuid + "\n"
    assert cli.fails("dominfo", "") == "error: Failed to get option 'domain': Option argument is empty\n"


def test_dominfo(cli: Cli) -> None:
    uuid = cli.ok("-q", "domuuid", "demo").strip()
    assert cli.ok("dominfo", "demo") == (
        "Id:             1\n"
        "Name:           demo\n"
        f"UUID:           {uuid}\n"
        "OS Type:        hvm\n"
        "State:          running\n"
        "CPU(s):         2\n"
        "CPU time:       12.3s\n"
        "Max memory:     262144 KiB\n"
        "Used memory:    131072 KiB\n"
        "Persistent:     yes\n"
        "Autostart:      disable\n"
        "Autostart Once: disable\n"
        "Managed save:   no\n"
        "Security model: none\n"
        "Security DOI:   0\n"
        "\n"
    )
    off = cli.ok("dominfo", "other")
    assert off.startswith("Id:             -\n")
    assert "CPU time" not in off
    assert json.loads(cli.ok("dominfo", "demo", "--json"))["max_memory_kib"] == 262144


def test_domstate(cli: Cli) -> None:
    assert cli.ok("domstate demo; domstate demo --reason; domstate other --reason") == (
        "running\n\nrunning (booted)\n\nshut off (unknown)\n\n"
    )
    assert json.loads(cli.ok("domstate", "demo", "--json")) == {"state": "running", "reason": "booted"}


def test_every_state_and_reason_has_words() -> None:
    assert set(STATES) == set(DomainState)
    assert {reason.name for reason in Reason if reason_text(reason) == "unknown"} == {
        reason.name for reason in Reason if reason.name.endswith("_UNKNOWN")
    }


def test_a_domains_life(cli: Cli) -> None:
    assert cli.ok("start", "other") == "Domain 'other' started\n\n"
    assert cli.ok("suspend other; domstate other --reason") == (
        "Domain 'other' suspended\n\npaused (user)\n\n"
    )
    assert cli.ok("resume other; reset other; reboot other; shutdown other; destroy other") == (
        "Domain 'other' resumed\n\nDomain 'other' was reset\n\nDomain 'other' is being rebooted\n\n"
        "Domain 'other' is being shutdown\n\nDomain 'other' destroyed\n\n"
    )
    assert cli.ok("-q", "start", "other") == ""
    assert cli.ok("-q", "domstate", "other") == "running\n"


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("shutdown", "Failed to shutdown domain 'other'"),
        ("reboot", "Failed to reboot domain 'other'"),
        ("reset", "Failed to reset domain 'other'"),
        ("destroy", "Failed to destroy domain 'other'"),
        ("suspend", "Failed to suspend domain 'other'"),
        ("resume", "Failed to resume domain 'other'"),
    ],
)
def test_a_refusal_has_the_commands_line_and_the_librarys(cli: Cli, command: str, line: str) -> None:
    result = cli(command, "other")
    assert (result.status, result.out) == (1, "\n")
    assert result.err == f"error: {line}\nerror: Requested operation is not valid: domain is not running\n"


def test_start_refuses_what_runs_and_what_is_not_supported(cli: Cli) -> None:
    assert cli.fails("start", "demo") == "error: Domain is already active\n"
    assert cli.fails("start", "other", "--pass-fds", "3").endswith(
        "unsupported configuration: passing file descriptors to the guest (--pass-fds) is not supported\n"
    )
    assert cli.ok("-q", "start other --paused; domstate other --reason") == "paused (starting up)\n"


def test_shutdown_modes(cli: Cli) -> None:
    cli.ok("shutdown", "demo", "--mode", "acpi,agent")
    assert cli.service.calls[-1] == (
        "shutdown",
        ShutdownMethod.ACPI_POWER_BTN | ShutdownMethod.GUEST_AGENT,
    )
    assert cli.fails("shutdown", "demo", "foo") == (
        "error: Unknown mode foo value, expecting 'acpi', 'agent', 'initctl', 'signal', or 'paravirt'\n"
    )
    assert cli.fails("reboot", "demo", "--mode", "xx") == (
        "error: Unknown mode xx value, expecting 'acpi', 'agent', 'initctl', 'signal' or 'paravirt'\n"
    )


def test_define_and_undefine(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "vm.xml"
    file.write_text("<domain type='qemu'><name>new</name></domain>")
    assert cli.ok("define", str(file)) == f"Domain 'new' defined from {file}\n\n"
    assert cli.ok("undefine", "new") == "Domain 'new' has been undefined\n\n"
    assert cli.fails("domid", "new") == "error: failed to get domain 'new'\n"
    file.write_text("no xml")
    assert cli.fails("define", str(file)).startswith(f"error: Failed to define domain from {file}\nerror: ")
    file.write_bytes(b"\xff\xfe")
    assert "not UTF-8" in cli.fails("define", str(file))
    assert cli.fails("define", "/nonexistent") == (
        "error: Failed to open file '/nonexistent': No such file or directory\n"
    )
    assert cli.fails("define", "/tmp") == "error: Failed to read file '/tmp': Is a directory\n"


def test_undefine_with_snapshots_and_storage(cli: Cli) -> None:
    cli.ok("snapshot-create-as", "other", "s")
    assert cli.fails("undefine", "other") == (
        "error: Failed to undefine domain 'other'\n"
        "error: Requested operation is not valid: cannot delete inactive domain with 1 snapshots\n"
    )
    assert cli.fails("undefine", "other", "--nvram", "--keep-nvram") == (
        "error: Options --nvram and --keep-nvram are mutually exclusive\n"
    )
    assert cli.fails("undefine", "other", "--delete-snapshots") == (
        "error: Option --remove-all-storage is required by option --delete-storage-volume-snapshots\n"
    )
    assert cli.fails("undefine", "other", "--storage", "x") == (
        "error: Volume 'x' was not found in domain's definition.\n"
    )
    cli.ok("undefine", "other", "--snapshots-metadata")


def test_create_and_autostart(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "vm.xml"
    file.write_text("<domain/>")
    assert cli.fails("create", str(file)).startswith(f"error: Failed to create domain from {file}\nerror: ")
    assert "--pass-fds" in cli.fails("create", str(file), "--pass-fds", "3")
    file.write_text("<domain><name>once</name></domain>")
    assert cli.ok("create", str(file), "--paused") == f"Domain 'once' created from {file}\n\n"
    assert cli.ok("autostart", "demo") == "Domain 'demo' marked as autostarted\n\n"
    assert cli.ok("autostart", "demo", "--disable") == "Domain 'demo' unmarked as autostarted\n\n"
    assert "--once" in cli.fails("autostart", "demo", "--once")


def test_dumpxml(cli: Cli) -> None:
    assert cli.ok("dumpxml", "demo").startswith("<domain id='1' type='qemu'>\n")
    assert cli.ok("dumpxml", "demo", "--inactive").startswith("<domain type='qemu'>\n")


def test_blocks(cli: Cli) -> None:
    assert cli.ok("domblklist", "demo") == (
        " Target   Source\n----------------------------------\n vda      /images/demo-vda.qcow2\n\n"
    )
    assert cli.ok("domblklist", "demo", "--details") == (
        " Type   Device   Target   Source\n"
        "--------------------------------------------------\n"
        " file   disk     vda      /images/demo-vda.qcow2\n\n"
    )
    assert cli.ok("domblkinfo", "demo", "vda") == (
        "Capacity:       8589934592\nAllocation:     200704\nPhysical:       196640\n\n"
    )
    assert cli.ok("domblkinfo", "demo", "--all", "--human") == (
        " Target   Capacity    Allocation    Physical\n"
        "-------------------------------------------------\n"
        " vda      8.000 GiB   196.000 KiB   192.031 KiB\n\n"
    )
    assert cli.fails("domblkinfo", "demo") == "error: command 'domblkinfo' requires <device> option\n"
    assert cli.fails("domblkinfo", "demo", "vda", "--all") == (
        "error: Options --all and --device are mutually exclusive\n"
    )
    assert cli.fails("domblkinfo", "demo", "sdx") == (
        "error: invalid argument: invalid path sdx not assigned to domain\n"
    )
    assert json.loads(cli.ok("domblkinfo", "demo", "--all", "--json"))[0]["capacity"] == 8589934592


def test_an_empty_drive_has_dashes(cli: Cli) -> None:
    domain = cli.service.add("cd")
    domain.xml = domain.xml.replace("<source file='/images/cd-vda.qcow2'/>", "")
    assert cli.ok("-q", "domblklist", "cd") == " vda   -\n"
    assert cli.ok("-q", "domblkinfo", "cd", "--all") == " vda   -   -   -\n"


def test_screenshot(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.ok("screenshot", "demo", "x.png") == "Screenshot saved to x.png, with type of image/png\n"
    assert Path("x.png").read_bytes() == b"\x89PNG"
    cli.ok("screenshot", "demo")
    assert len(list(tmp_path.glob("demo-*.png"))) == 1
    assert cli.fails("screenshot", "other", "y.png").startswith(
        "error: could not take a screenshot of other\n"
    )
    assert cli.fails("screenshot", "demo", "--screen", "x") == (
        "error: Numeric value 'x' for <screen> option is malformed or out of range\n"
    )
    assert cli.fails("screenshot", "demo", "/no/dir/x") == (
        "error: cannot create file /no/dir/x: No such file or directory\n"
    )


def test_the_host(cli: Cli) -> None:
    assert cli.ok("uri") == "qemu:///embed?root=/fake\n\n"
    assert "Running hypervisor: QEMU 10.0.2\n" in cli.ok("version")
    assert json.loads(cli.ok("version", "--json"))["hypervisor"]["version"] == "10.0.2"


def test_the_program_itself(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert cli.ok(f"cd {tmp_path}; pwd") == f"\n{tmp_path}\n\n"
    assert cli.fails("cd", "/nonex") == "error: cd: No such file or directory: /nonex\n"
    assert cli.ok("echo", "a b", "c") == "a b c\n"
    assert cli.ok("echo", "--xml", "a'b\"<") == "a&apos;b&quot;&lt;\n"
    assert cli.ok("echo", "--shell", "a b", "e") == "'a b' e\n"
    assert cli.fails("echo", "--shell", "--xml", "e") == (
        "error: Options --shell and --xml are mutually exclusive\n"
    )
    cli.ok("connect", "elsewhere", "--readonly")
    assert cli.opened == [("elsewhere", True)]
