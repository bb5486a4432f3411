"""libvirt's own Python module on virtsnapd, unmodified, in the system's Python."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from lab.console import SyncConsole
from lab.guest import build
from tests.server.conftest import SYSTEM_PATH, Served

pytestmark = pytest.mark.real
SYSTEM = "/usr/bin/python3"


def run(script: str, *words: str) -> dict[str, object]:
    """What a script next to this file prints, as JSON."""
    if subprocess.run([SYSTEM, "-c", "import libvirt"], capture_output=True, check=False).returncode:
        pytest.skip(f"no libvirt module for {SYSTEM} here (script/setup --with-parity installs it)")
    done = subprocess.run(
        [SYSTEM, Path(__file__).with_name(script), *words],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, object] = json.loads(done.stdout)
    return seen


def test_a_life(served: Served) -> None:
    image = served.folder / "p.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "1M"], check=True)
    file = served.folder / "p.xml"
    file.write_text(
        "<domain type='qemu'><name>p</name><uuid>0f0f0f0f-2222-3333-4444-555555555555</uuid>"
        "<memory unit='MiB'>32</memory><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>"
        f"<disk type='file'><driver name='qemu' type='qcow2'/><source file='{image}'/>"
        "<target dev='vda' bus='virtio'/></disk><graphics type='vnc'/>"
        "<video><model type='vga'/></video></devices></domain>"
    )
    seen = run("libvirt_life.py", served.uri, str(file))
    assert [seen[key] for key in ("type", "version", "alive", "empty")] == ["QEMU", 11003000, 1, [0, 0, 0, 0]]
    assert seen["cpu"] == ["idle", "iowait", "kernel", "user"]
    assert "<domain type='qemu'/>" in str(seen["capabilities"])
    assert "<machine>pc-q35-" in str(seen["q35"])
    assert seen["transient"] == ["p", True, 0, [3, 1]]
    assert seen["again"] == [55, 10, "Requested operation is not valid: domain 'p' is already active"]
    assert seen["resumed"] == [1, 5]
    assert (seen["description"], seen["element"]) == ("for a test", '<a x="1"/>')
    assert '<k:a xmlns:k="http://example.org/x" x="1"/>' in str(seen["in the definition"])
    assert seen["no title"] == [80, 20, "metadata not found: Requested metadata element is not present"]
    stats = seen["stats"]
    assert isinstance(stats, dict)
    assert (stats["state.state"], stats["vcpu.current"], stats["block.0.name"]) == (1, 1, "vda")
    assert stats["block.0.capacity"] == 1024 * 1024
    assert seen["defined"] == [1, 0]
    assert seen["autostart"] == [1, 1]
    assert seen["snapshot"] == ["one", 1, 1, 0]
    assert seen["tree"] == ["one", ["two"]]
    assert seen["root"] == [72, 10, "Domain snapshot not found: snapshot 'one' does not have a parent"]
    assert seen["reverted"] == [[1, 4], True]
    assert seen["left"] == 0
    assert seen["nothing"][:2] == [72, 10]  # type: ignore[index]
    assert seen["job"] == {"type": 0}
    assert seen["block"] == 1024 * 1024
    assert (seen["mime"], seen["picture"]) == ("image/png", "89504e47")
    assert str(seen["screen at"]).startswith("<graphics type='vnc' port='59")
    assert seen["screen"] == "RFB 003.008\n"
    assert seen["no screen"] == [1, 10, "internal error: No graphics backend with index 1"]
    assert seen["gone"][:2] == [42, 10]  # type: ignore[index]
    assert seen["readonly"][0] == 29  # type: ignore[index]


def test_what_virt_manager_does(served: Served) -> None:
    served.define("vm")
    seen = run("libvirt_manager.py", served.uri)
    assert seen["empty"] == [0, 0, 0, 0, 0]
    assert seen["stats"] == ["state.reason", "state.state", "vcpu.current"]
    assert (seen["saved"], seen["state"][0], seen["current"]) == (0, 5, [1])  # type: ignore[index]
    told = seen["told"]
    assert isinstance(told, list)
    assert told[0] == ["vm", 4, 0]
    assert ["vm", 2, 3] in told  # the revert has started it from the snapshot
    assert told[-1] == ["vm", 5, 1]
    served.ok("undefine", "vm")


def test_events_arrive_in_libvirts_asyncio_loop(served: Served) -> None:
    served.define("e")
    seen = run("libvirt_events.py", served.uri, "e")
    assert seen["started"] == [[4, 0], [2, 0]] or seen["started"] == [[2, 0], [4, 0]]
    pulled = [1, 0]  # a pull, completed
    path, target = seen["job"]  # type: ignore[misc]
    assert path[0].startswith(f"{served.folder}/e.")
    assert path[1:] == pulled
    assert target == ["vda", *pulled]
    assert seen["stopped"] == [[6, 2], [5, 1]]
    served.ok("undefine", "e")


def virtinst(served: Served, program: str, *words: str) -> None:
    """One of virt-manager's command line tools, which must succeed."""
    if shutil.which(program, path=SYSTEM_PATH) is None:
        pytest.skip(f"no {program} here (script/setup --with-parity installs it)")
    done = subprocess.run(
        [program, "--connect", served.uri.replace("/system", "/session"), *words],
        env={"PATH": SYSTEM_PATH, "HOME": str(served.folder), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_virt_clone_and_virt_xml(served: Served) -> None:
    served.define("one")
    virtinst(served, "virt-clone", "--original", "one", "--name", "twin", "--auto-clone")
    virtinst(served, "virt-xml", "twin", "--edit", "--vcpus", "2", "--define")
    assert f"{served.folder}/twin.qcow2" in served.ok("domblklist", "twin")
    assert "2</vcpu>" in served.ok("dumpxml", "twin")
    served.ok("undefine", "twin", "--remove-all-storage")
    served.ok("undefine", "one")


@pytest.mark.guest
def test_virt_install(served: Served) -> None:
    """It imports the lab's guest, makes a pool for its folder, has another disk made in there, and starts it.

    As on a libvirtd of the user's own, the guest gets a network of QEMU's.
    """
    guest, folder = build(), served.folder / "disks"
    folder.mkdir()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", folder / "x.qcow2", "64M"], check=True)
    kernel = f"kernel={guest.kernel},initrd={guest.initrd},kernel_args={guest.cmdline.replace(',', ',,')}"
    words = ["--name", "vi", "--memory", "128", "--virt-type", "qemu", "--import", "--noautoconsole"]
    words += ["--disk", f"{folder}/x.qcow2,bus=virtio", "--disk", "size=1,pool=disks", "--boot", kernel]
    words += ["--graphics", "none", "--osinfo", "detect=off,require=off"]
    words += ["--serial", f"unix,source.path={folder}/serial,source.mode=bind"]
    virtinst(served, "virt-install", *words)
    assert f"{folder}/vi.qcow2" in served.ok("domblklist", "vi")
    assert "<interface type='user'>" in served.ok("dumpxml", "vi")
    with SyncConsole(folder / "serial") as console:
        console.wait_ready()
        assert console.run("disk put vda here && disk get vda").out == "here"
    served.ok("destroy", "vi")
    served.ok("undefine", "vi", "--remove-all-storage")
    assert list(folder.glob("*.qcow2")) == []
