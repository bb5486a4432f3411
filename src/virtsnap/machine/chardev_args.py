"""QEMU's options for serial ports, consoles and channels: the character device and the device in front."""

from __future__ import annotations

from dataclasses import dataclass, field

from lxml import etree

from virtsnap.machine import options, places, tree
from virtsnap.machine.aliases import alias_of
from virtsnap.machine.launch import Json, Launch
from virtsnap.model.errors import ConfigUnsupported


@dataclass
class Characters:
    """What the options of all character devices come to."""

    argv: list[str] = field(default_factory=list)
    chardevs: dict[str, str] = field(default_factory=dict)
    sockets: dict[str, str] = field(default_factory=dict)


def character_args(root: etree._Element, launch: Launch) -> Characters:
    """Serial and parallel ports, channels and virtio consoles, in libvirt's order."""
    result = Characters()
    for device in tree.children(root, "serial", "parallel", "channel", "console"):
        alias = alias_of(device)
        if device.tag == "console" and tree.attribute(device, "target", "type") == "serial":
            continue
        identifier = f"char{alias}"
        result.chardevs[alias] = identifier
        result.argv += ["-chardev", _backend(device, identifier, alias, launch, result)]
        result.argv += options.device(_front(root, device, identifier))
    return result


def _backend(device: etree._Element, identifier: str, alias: str, launch: Launch, result: Characters) -> str:
    kind = device.get("type", "pty")
    source = device.find("source")
    match kind:
        case "pty" | "null":
            text = f"{kind},id={identifier}"
        case "file":
            path = _needed(source, "path", device)
            text = f"file,id={identifier},path={options.escape(path)}"
            if source is not None and source.get("append") is not None:
                text += f",append={source.get('append')}"
        case "unix":
            text = _unix(source, identifier, alias, launch, result)
        case "tcp":
            text = _tcp(device, source, identifier, launch)
        case _:
            raise ConfigUnsupported(f"type='{kind}' of <devices/{device.tag}> is not supported")
    log = device.find("log")
    if log is not None and log.get("file"):
        text += f",logfile={options.escape(log.get('file', ''))}"
        if log.get("append") is not None:
            text += f",logappend={log.get('append')}"
    return text


def _needed(source: etree._Element | None, name: str, device: etree._Element) -> str:
    value = None if source is None else source.get(name)
    if not value:
        raise ConfigUnsupported(f"<devices/{device.tag}/source> without attribute '{name}' is not supported")
    return value


def _unix(
    source: etree._Element | None, identifier: str, alias: str, launch: Launch, result: Characters
) -> str:
    path = None if source is None else source.get("path")
    # libvirt makes up a path of its own for a channel that names none
    path = path or f"{launch.run_dir}/{alias}.sock"
    text = f"socket,id={identifier},path={options.escape(path)}"
    if source is not None and source.get("mode") == "connect":
        return text + _reconnect(source, launch)
    result.sockets[alias] = path
    return text + ",server=on,wait=off"


def _tcp(device: etree._Element, source: etree._Element | None, identifier: str, launch: Launch) -> str:
    host = "" if source is None else source.get("host", "")
    port = _needed(source, "service", device)
    text = f"socket,id={identifier},host={options.escape(host)},port={options.escape(port)}"
    if tree.attribute(device, "protocol", "type") == "telnet":
        text += ",telnet=on"
    if source is not None and source.get("mode") == "bind":
        return text + ",server=on,wait=off"
    return text + ("" if source is None else _reconnect(source, launch))


def _reconnect(source: etree._Element, launch: Launch) -> str:
    reconnect = source.find("reconnect")
    if reconnect is None or reconnect.get("enabled") != "yes":
        return ""
    seconds = tree.number(reconnect.get("timeout"))
    if launch.qemu_version >= (9, 2, 0):
        return f",reconnect-ms={seconds * 1000}"
    return f",reconnect={seconds}"


def _front(root: etree._Element, device: etree._Element, chardev: str) -> Json:
    alias = alias_of(device)
    match device.tag:
        case "serial":
            return _serial(root, device, chardev)
        case "parallel":
            return {"driver": "isa-parallel", "chardev": chardev, "id": alias}
        case "console":
            return {"driver": "virtconsole", "chardev": chardev, "id": alias}
    controller, bus, port = (
        tree.attribute(device, "address", name) or "0" for name in ("controller", "bus", "port")
    )
    return {
        "driver": "virtserialport",
        "bus": f"virtio-serial{controller}.{bus}",
        "nr": int(port),
        "chardev": chardev,
        "id": alias,
        "name": tree.attribute(device, "target", "name"),
    }


def _serial(root: etree._Element, device: etree._Element, chardev: str) -> Json:
    model = tree.attribute(device, "target/model", "name") or "isa-serial"
    properties: Json = {"driver": model, "chardev": chardev, "id": alias_of(device)}
    if model == "isa-serial":
        return properties | {"index": tree.number(tree.attribute(device, "target", "port"))}
    if model == "pci-serial":
        return properties | places.pci(root, device)
    return properties | places.usb(root, device)
