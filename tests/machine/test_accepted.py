"""Real QEMU takes the command lines: it starts, waits, runs the commands left over, and quits."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.machine.command_line import Launch, Layer, command_line
from virtsnap.machine.complete import complete
from virtsnap.machine.firmware import from_json
from virtsnap.machine.host import Host

pytestmark = pytest.mark.real

HERE = Path(__file__).parent
EMULATOR = shutil.which("qemu-system-x86_64")
FIRMWARE = Path("/usr/share/qemu/firmware")
UNUSABLE = (
    "mode='connect'",
    "type='tcp'",
    "host-passthrough",
    "host-model",
    "/dev/ttyS0",
    "/x/y.",
    "/n.fd",
    "<loader r",
    "<loader>",
    "<tpm",
)
"""What needs another program, or KVM."""
OPTIONS_WITH_FILES = ("-kernel", "-initrd", "-append")


def usable() -> list[str]:
    texts = {path.stem: path.read_text() for path in sorted((HERE / "corpus").glob("*.xml"))}
    return [name for name, text in texts.items() if not any(word in text for word in UNUSABLE)]


def host(nvram_dir: Path) -> Host:
    if EMULATOR is None or shutil.which("qemu-img") is None:
        pytest.skip("no QEMU here")
    listing = subprocess.run(
        [EMULATOR, "-machine", "help"], capture_output=True, text=True, check=True
    ).stdout
    aliases = {}
    for line in listing.splitlines():
        word, _, rest = line.partition(" ")
        if word in ("q35", "pc") and "(alias of " in rest:
            aliases[word] = rest.rpartition("(alias of ")[2].rstrip(")")
    texts = [path.read_text() for path in sorted(FIRMWARE.glob("*.json"))]
    firmwares = tuple(found for text in texts if (found := from_json(text)) is not None)
    return Host(EMULATOR, machine_aliases=aliases, firmwares=firmwares, nvram_dir=str(nvram_dir))


def chains(definition: DomainDefinition, folder: Path) -> dict[str, tuple[Layer, ...]]:
    """Images of our own in place of those in the definition; a backing file below each qcow2."""
    found: dict[str, tuple[Layer, ...]] = {}
    for disk in definition.disks:
        if disk.source is None:
            continue
        image = folder / f"{disk.target}.{disk.format}"
        layers = [Layer(str(image), disk.format)]
        size = "1440K" if disk.device == "floppy" else "1M"
        command = ["qemu-img", "create", "-q", "-f", disk.format]
        if disk.format == "qcow2":
            base = folder / f"{disk.target}.base"
            base.write_bytes(bytes(1024 * 1024))
            layers.append(Layer(str(base), "raw"))
            command += ["-b", str(base), "-F", "raw", str(image)]
        else:
            command += [str(image), size]
        subprocess.run(command, check=True)
        found[disk.target] = tuple(layers)
    return found


@pytest.mark.parametrize("name", usable())
def test_qemu_accepts(name: str, tmp_path: Path) -> None:
    text = (HERE / "corpus" / f"{name}.xml").read_text()
    text = text.replace("type='kvm'", "type='qemu'").replace("/tmp/", f"{tmp_path}/")
    # Direct I/O is refused by some file systems that tests run on, and is not what is asked here.
    text = text.replace("cache='none' io='native'", "").replace("cache='none'", "")
    text = text.replace("cache='directsync'", "")
    known = host(tmp_path)
    if "firmware='efi'" in text and not known.firmwares:
        pytest.skip("no UEFI firmware here")
    definition = complete(DomainDefinition.parse(text), known)
    if definition.nvram_path is not None and definition.nvram_template is not None:
        shutil.copy(definition.nvram_template, definition.nvram_path)
    line = command_line(definition, Launch(run_dir=str(tmp_path), chains=chains(definition, tmp_path)))
    argv = list(line.argv)
    for option in OPTIONS_WITH_FILES:
        if option in argv:
            place = argv.index(option)
            del argv[place : place + 2]
    commands = [("qmp_capabilities", {}), *line.commands, ("query-pci", {}), ("quit", {})]
    script = "".join(json.dumps({"execute": c, "arguments": dict(a)}) + "\n" for c, a in commands)
    done = subprocess.run(
        [*argv, "-qmp", "stdio"], input=script, capture_output=True, text=True, timeout=60, check=False
    )
    answers = [json.loads(row) for row in done.stdout.splitlines() if row.startswith("{")]
    if "kernel doesn't allow setting HyperV VP_INDEX" in done.stderr:
        pytest.skip("this QEMU has Hyper-V's vpindex with KVM alone")
    assert done.returncode == 0, done.stderr
    assert [a["error"] for a in answers if "error" in a] == []
    assert sum("return" in a for a in answers) == len(commands)


def test_the_chain_that_qemu_opens_is_the_one_given(tmp_path: Path) -> None:
    """A backing file that an image names and that the chain does not have is not opened."""
    base = tmp_path / "base"
    base.write_bytes(bytes(1024 * 1024))
    top = tmp_path / "top.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "raw", str(top)], check=True
    )
    base.unlink()
    text = (
        f"<domain type='qemu'><name>x</name><uuid>{'1' * 32}</uuid><memory>65536</memory>"
        "<os><type machine='q35'>hvm</type></os><devices><disk><driver type='qcow2'/>"
        f"<source file='{top}'/><target dev='vda'/></disk></devices></domain>"
    )
    definition = complete(DomainDefinition.parse(text), host(tmp_path))
    line = command_line(definition, Launch(run_dir=str(tmp_path)))
    script = '{"execute":"qmp_capabilities"}\n{"execute":"query-block"}\n{"execute":"quit"}\n'
    done = subprocess.run(
        [*line.argv, "-qmp", "stdio"], input=script, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(row) for row in done.stdout.splitlines()]
    block = next(a["return"] for a in answers if a.get("return"))
    assert block[0]["inserted"]["node-name"] == "libvirt-1-format"
    assert block[0]["inserted"]["backing_file_depth"] == 0
