"""QEMU's options for all devices but disks and character devices: controllers, network, display..."""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping

from lxml import etree

from virtsnap.formats.domain_xml import VNC_ADDRESS
from virtsnap.machine import options, places, tree
from virtsnap.machine.aliases import alias_of
from virtsnap.machine.launch import Json, Launch
from virtsnap.model.errors import ConfigUnsupported

# --- controllers ------------------------------------------------------------------------------------------

_USB_DRIVERS = {
    "piix3-uhci": "piix3-usb-uhci",
    "piix4-uhci": "piix4-usb-uhci",
    "ehci": "usb-ehci",
    "ich9-ehci1": "ich9-usb-ehci1",
    "ich9-uhci1": "ich9-usb-uhci1",
    "ich9-uhci2": "ich9-usb-uhci2",
    "ich9-uhci3": "ich9-usb-uhci3",
    "nec-xhci": "nec-usb-xhci",
    "qemu-xhci": "qemu-xhci",
}
_SCSI_DRIVERS = {"lsilogic": "lsi", "virtio-scsi": "virtio-scsi-pci"}


def controller_args(root: etree._Element) -> list[str]:
    """Controllers, kind by kind, but those that the board has anyway."""
    argv: list[str] = []
    for kind in ("pci", "usb", "scsi", "ide", "sata", "virtio-serial"):
        for controller in tree.controllers(root, kind):
            properties = _controller(root, controller, kind)
            if properties is not None:
                argv += options.device(properties)
    q35 = any(c.get("model") == "pcie-root" for c in tree.controllers(root, "pci"))
    if q35 and tree.controllers(root, "fdc"):
        argv += options.device({"driver": "isa-fdc"})
    return argv


def _controller(root: etree._Element, controller: etree._Element, kind: str) -> Json | None:
    alias, model = alias_of(controller), controller.get("model", "")
    match kind:
        case "pci":
            return _pci_controller(root, controller, model, alias)
        case "usb":
            return _usb_controller(root, controller, model, alias)
        case "scsi":
            return _scsi_controller(root, controller, model, alias)
        case "sata":
            return None if alias == "ide" else {"driver": "ahci", "id": alias, **places.pci(root, controller)}
        case "virtio-serial":
            ports, vectors = controller.get("ports"), controller.get("vectors")
            return {
                "driver": "virtio-serial-pci",
                "id": alias,
                "max_ports": None if ports is None else int(ports),
                "vectors": None if vectors is None else int(vectors),
                **places.pci(root, controller),
            }
    return None


def _pci_controller(root: etree._Element, controller: etree._Element, model: str, alias: str) -> Json | None:
    if model in ("pci-root", "pcie-root"):
        return None
    driver = tree.attribute(controller, "model", "name")
    chassis, port = (tree.attribute(controller, "target", name) for name in ("chassis", "port"))
    number = tree.attribute(controller, "target", "chassisNr")
    return {
        "driver": driver,
        "port": None if port is None else int(port, 0),
        "chassis": None if chassis is None else int(chassis, 0),
        "chassis_nr": None if number is None else int(number, 0),
        "id": alias,
        **places.pci(root, controller),
    }


def _usb_controller(root: etree._Element, controller: etree._Element, model: str, alias: str) -> Json | None:
    if model == "none":
        return None
    ports = controller.get("ports")
    properties: Json = {"driver": _USB_DRIVERS[model]}
    if ports is not None and model.endswith("xhci"):
        properties |= {"p2": int(ports), "p3": int(ports)}
    start = tree.attribute(controller, "master", "startport")
    if start is not None:
        properties |= {"masterbus": f"{alias}.0", "firstport": int(start)}
    else:
        properties["id"] = alias
    return properties | places.pci(root, controller)


def _scsi_controller(root: etree._Element, controller: etree._Element, model: str, alias: str) -> Json:
    iothread = tree.attribute(controller, "driver", "iothread")
    queues = tree.attribute(controller, "driver", "queues")
    if model not in _SCSI_DRIVERS:
        raise ConfigUnsupported(f"model='{model}' of SCSI controller {alias} is not supported")
    return {
        "driver": _SCSI_DRIVERS[model],
        "iothread": None if iothread is None else f"iothread{iothread}",
        "id": alias,
        "num_queues": None if queues is None else int(queues),
        **places.pci(root, controller),
    }


# --- network ----------------------------------------------------------------------------------------------


def interface_args(root: etree._Element, boot: Mapping[etree._Element, int]) -> list[str]:
    """User-mode network cards."""
    argv: list[str] = []
    for number, interface in enumerate(tree.children(root, "interface")):
        backend = f"hostnet{number}"
        netdev: Json = {"type": "user"}
        for ip in interface.iterfind("ip"):
            if ip.get("family", "ipv4") == "ipv4":
                prefix = f"/{ip.get('prefix')}" if ip.get("prefix") else ""
                netdev["net"] = f"{ip.get('address')}{prefix}"
            else:
                netdev["ipv6-prefix"] = ip.get("address")
                length = ip.get("prefix")
                netdev["ipv6-prefixlen"] = None if length is None else int(length)
        argv += ["-netdev", options.to_json({**netdev, "id": backend})]
        model = tree.attribute(interface, "model", "type") or "rtl8139"
        argv += options.device(
            {
                "driver": "virtio-net-pci" if model in ("virtio", "virtio-net") else model,
                "netdev": backend,
                "id": alias_of(interface),
                "mac": tree.attribute(interface, "mac", "address"),
                "bootindex": boot.get(interface),
                **places.pci(root, interface),
            }
        )
    return argv


# --- input and display ------------------------------------------------------------------------------------

_USB_INPUT = {"tablet": "usb-tablet", "mouse": "usb-mouse", "keyboard": "usb-kbd"}


def hub_args(root: etree._Element) -> list[str]:
    """USB hubs."""
    argv: list[str] = []
    for hub in tree.children(root, "hub"):
        argv += options.device({"driver": "usb-hub", "id": alias_of(hub), **places.usb(root, hub)})
    return argv


def input_args(root: etree._Element) -> list[str]:
    """USB and virtio input devices; PS/2 ones belong to the board."""
    argv: list[str] = []
    for device in tree.children(root, "input"):
        kind = device.get("type", "")
        if device.get("bus") == "usb":
            argv += options.device(
                {"driver": _USB_INPUT[kind], "id": alias_of(device), **places.usb(root, device)}
            )
        elif device.get("bus") == "virtio":
            argv += options.device(
                {"driver": f"virtio-{kind}-pci", "id": alias_of(device), **places.pci(root, device)}
            )
    return argv


def audio_id(root: etree._Element) -> str:
    """The id of the audio backend that everything plays to."""
    audio = next(tree.children(root, "audio"), None)
    return f"audio{'1' if audio is None else audio.get('id', '1')}"


def display_args(root: etree._Element) -> list[str]:
    """Audio backend, VNC and video cards."""
    argv = []
    for audio in tree.children(root, "audio"):
        argv += ["-audiodev", options.to_json({"id": f"audio{audio.get('id')}", "driver": "none"})]
    for graphics in tree.children(root, "graphics"):
        secret = ",password=on" if graphics.get("passwd") is not None else ""
        argv += ["-vnc", f"{_vnc(graphics)}{secret},audiodev={audio_id(root)}"]
        keymap = graphics.get("keymap")
        if keymap is not None:
            argv += ["-k", keymap]
    for position, video in enumerate(tree.children(root, "video")):
        properties = _video(root, video, primary=position == 0)
        if properties is not None:
            argv += options.device(properties)
    return argv


def _vnc(graphics: etree._Element) -> str:
    listen = graphics.find("listen")
    if listen is not None and listen.get("type") == "socket":
        return f"vnc=unix:{options.escape(listen.get('socket', ''))}"
    host = graphics.get("listen") or tree.attribute(graphics, "listen", "address") or VNC_ADDRESS
    if ":" in host:
        host = f"[{host}]"
    if graphics.get("autoport") == "yes" or graphics.get("port") in (None, "-1"):
        # QEMU takes the first free one; libvirt would look for it itself
        return f"{host}:0,to=9999"
    return f"{host}:{int(graphics.get('port', '5900')) - 5900}"


_VIDEO = {
    "vga": ("VGA", None),
    "cirrus": ("cirrus-vga", None),
    "vmvga": ("vmware-svga", None),
    "virtio": ("virtio-vga", "virtio-gpu-pci"),
    "bochs": ("bochs-display", None),
    "ramfb": ("ramfb", None),
}
"""Model -> driver as the primary card, and as another one."""


def _video(root: etree._Element, video: etree._Element, *, primary: bool) -> Json | None:
    kind = tree.attribute(video, "model", "type") or ""
    if kind == "none":
        return None
    vram = tree.attribute(video, "model", "vram")
    heads = tree.attribute(video, "model", "heads")
    properties: Json = {"driver": _VIDEO[kind][0 if primary else 1], "id": alias_of(video)}
    if kind == "ramfb":
        return properties
    if kind in ("vga", "vmvga") and vram is not None:
        properties["vgamem_mb"] = int(vram) // 1024
    elif kind == "bochs" and vram is not None:
        properties["vgamem"] = int(vram) * 1024
    elif kind == "virtio" and heads is not None:
        properties["max_outputs"] = int(heads)
    return properties | places.pci(root, video)


_SOUND = {"ich6": "intel-hda", "ich9": "ich9-intel-hda", "ac97": "AC97", "es1370": "ES1370"}


def sound_args(root: etree._Element) -> list[str]:
    """Sound cards; an HDA controller has a codec."""
    argv: list[str] = []
    backend = audio_id(root)
    for sound in tree.children(root, "sound"):
        model, alias = sound.get("model", ""), alias_of(sound)
        place = places.pci(root, sound)
        if model in ("ich6", "ich9"):
            argv += options.device({"driver": _SOUND[model], "id": alias, **place})
            argv += options.device(
                {
                    "driver": "hda-duplex",
                    "id": f"{alias}-codec0",
                    "bus": f"{alias}.0",
                    "cad": 0,
                    "audiodev": backend,
                }
            )
        else:
            argv += options.device({"driver": _SOUND[model], "id": alias, "audiodev": backend, **place})
    return argv


# --- the rest ---------------------------------------------------------------------------------------------


def watchdog_args(root: etree._Element) -> list[str]:
    """Watchdogs, and what they all do when they bite."""
    argv: list[str] = []
    action: str | None = None
    for watchdog in tree.children(root, "watchdog"):
        model, action = watchdog.get("model", ""), watchdog.get("action", "reset")
        if model == "itco":
            argv += ["-global", "ICH9-LPC.noreboot=off"]
        else:
            place = places.pci(root, watchdog) if model == "i6300esb" else {}
            argv += options.device({"driver": model, "id": alias_of(watchdog), **place})
    return argv if action is None else [*argv, "-watchdog-action", action]


def balloon_args(root: etree._Element) -> list[str]:
    """The memory balloon."""
    argv: list[str] = []
    for balloon in tree.children(root, "memballoon"):
        if balloon.get("model") != "none":
            deflate, reporting = balloon.get("autodeflate"), balloon.get("freePageReporting")
            argv += options.device(
                {
                    "driver": "virtio-balloon-pci",
                    "id": alias_of(balloon),
                    "deflate-on-oom": None if deflate is None else deflate == "on",
                    "free-page-reporting": None if reporting is None else reporting == "on",
                    **places.pci(root, balloon),
                }
            )
    return argv


def rng_args(root: etree._Element) -> list[str]:
    """Random number generators."""
    argv: list[str] = []
    for rng in tree.children(root, "rng"):
        backend = f"obj{alias_of(rng)}"
        builtin = tree.attribute(rng, "backend", "model") == "builtin"
        source = {} if builtin else {"filename": tree.text(rng, "backend") or "/dev/urandom"}
        argv += options.backend("rng-builtin" if builtin else "rng-random", {"id": backend, **source})
        bytes_, period = (tree.attribute(rng, "rate", name) for name in ("bytes", "period"))
        argv += options.device(
            {
                "driver": "virtio-rng-pci",
                "rng": backend,
                "id": alias_of(rng),
                "max-bytes": None if bytes_ is None else int(bytes_),
                "period": (int(period) if period else 1000) if bytes_ is not None else None,
                **places.pci(root, rng),
            }
        )
    return argv


def panic_args(root: etree._Element) -> list[str]:
    """The port through which a guest tells that it panicked."""
    return [word for _ in tree.children(root, "panic") for word in options.device({"driver": "pvpanic"})]


def _password(graphics: etree._Element, now: int) -> list[tuple[str, Json]]:
    password, until = graphics.get("passwd"), graphics.get("passwdValidTo")
    if password is None:
        return []
    # UTC; any day up to the 31st, as mktime takes it
    parts = [int(part) for part in re.findall(r"\d+", until)] if until is not None else []
    seconds = calendar.timegm((*parts, 0, 0, 0)) if parts else None
    time = "never" if seconds is None else str(seconds)
    if password == "" or (seconds is not None and seconds <= now):
        time = "now"  # nobody gets in
    return [
        ("set_password", {"protocol": "vnc", "password": password}),
        ("expire_password", {"protocol": "vnc", "time": time}),
    ]


def later_commands(root: etree._Element, launch: Launch) -> list[tuple[str, Json]]:
    """QMP commands for what has no option: links that are down, the balloon's statistics, passwords."""
    commands: list[tuple[str, Json]] = []
    for graphics in tree.children(root, "graphics"):
        commands += _password(graphics, launch.now)
    for interface in tree.children(root, "interface"):
        if tree.attribute(interface, "link", "state") == "down":
            commands.append(("set_link", {"name": alias_of(interface), "up": False}))
    for balloon in tree.children(root, "memballoon"):
        period = tree.attribute(balloon, "stats", "period")
        if period is not None and balloon.get("model") != "none":
            commands.append(
                (
                    "qom-set",
                    {
                        "path": f"/machine/peripheral/{alias_of(balloon)}",
                        "property": "guest-stats-polling-interval",
                        "value": int(period),
                    },
                )
            )
    return commands
