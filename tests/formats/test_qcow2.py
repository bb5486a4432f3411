"""Our reading of qcow2 headers against QEMU's own."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtsnap.formats.qcow2 import HEADER_BYTES, MAGIC, Qcow2Header, parse, parse_snapshots

QEMU_IMG = shutil.which("qemu-img")
needs_qemu = pytest.mark.skipif(QEMU_IMG is None, reason="needs qemu-img")
real = pytest.mark.real


def img(*arguments: str, cwd: Path) -> str:
    assert QEMU_IMG is not None
    done = subprocess.run([QEMU_IMG, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def create(folder: Path, *arguments: str, name: str = "image", size: str = "64M") -> Path:
    img("create", "-q", "-f", "qcow2", *arguments, name, *([size] if size else []), cwd=folder)
    return folder / name


def said_by_qemu(path: Path) -> Qcow2Header:
    found: dict[str, Any] = json.loads(
        img("info", "-U", "-f", "qcow2", "--output=json", str(path), cwd=path.parent)
    )
    details = found["format-specific"]["data"]
    return Qcow2Header(
        virtual_size=found["virtual-size"],
        cluster_size=found["cluster-size"],
        backing=found.get("backing-filename"),
        backing_format=found.get("backing-filename-format"),
        extended_l2=details.get("extended-l2", False),
        corrupt=details.get("corrupt", False),
    )


def read(path: Path) -> Qcow2Header | None:
    """Without the place of the snapshot table, which QEMU does not tell."""
    with open(path, "rb") as file:
        header = parse(file.read(HEADER_BYTES))
    return None if header is None else replace(header, snapshot_count=0, snapshots_offset=0)


SHAPES: dict[str, list[str]] = {
    "plain": [],
    "version 2": ["-o", "compat=0.10"],
    "version 3": ["-o", "compat=1.1"],
    **{f"clusters of {size}": ["-o", f"cluster_size={size}"] for size in ("512", "4k", "64k", "1M", "2M")},
    "version 2, small clusters": ["-o", "compat=0.10,cluster_size=512"],
    "subclusters": ["-o", "extended_l2=on"],
    "subclusters, large": ["-o", "extended_l2=on,cluster_size=2M"],
    "lazy refcounts": ["-o", "lazy_refcounts=on"],
    "narrow refcounts": ["-o", "refcount_bits=1"],
    "wide refcounts": ["-o", "refcount_bits=64"],
    "zstd": ["-o", "compression_type=zstd"],
    "preallocated": ["-o", "preallocation=metadata"],
    "encrypted": [
        *("--object", "secret,id=s,data=x"),
        *("-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"),
    ],
    "external data": ["-o", "data_file=data,data_file_raw=on"],
}


@real
@needs_qemu
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(tmp_path: Path, shape: str) -> None:
    path = create(tmp_path, *SHAPES[shape])
    assert read(path) == said_by_qemu(path)


@real
@needs_qemu
@pytest.mark.parametrize("size", ["0", "1b", "512", "1T", "63P"])
def test_sizes(tmp_path: Path, size: str) -> None:
    arguments = ["-o", "cluster_size=2M"] if size == "63P" else []
    path = create(tmp_path, *arguments, size=size)
    assert read(path) == said_by_qemu(path)


@real
@needs_qemu
@pytest.mark.parametrize("version", ["0.10", "1.1"])
@pytest.mark.parametrize("format", ["qcow2", "raw"])
@pytest.mark.parametrize("cluster", ["512", "64k"])
def test_backing(tmp_path: Path, version: str, format: str, cluster: str) -> None:
    img("create", "-q", "-f", format, "base", "1M", cwd=tmp_path)
    for name in ("base", f"{tmp_path}/base", "./base", "file:base"):
        options = f"compat={version},cluster_size={cluster}"
        path = create(tmp_path, "-b", name, "-F", format, "-o", options, size="")
        header = read(path)
        assert header == said_by_qemu(path)
        assert header is not None
        assert (header.backing, header.backing_format) == (name, format)


@real
@needs_qemu
@pytest.mark.parametrize("version", ["0.10", "1.1"])
def test_backing_without_a_format(tmp_path: Path, version: str) -> None:
    create(tmp_path, name="base")
    path = create(tmp_path, "-b", "base", "-F", "qcow2", "-o", f"compat={version}")
    # qemu-img refuses to make one like that; older ones did, and it still rewrites the name alone.
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack(">II", 0xE2792ACA, 5))
    struct.pack_into(">I", data, at, 0x12345678)
    path.write_bytes(data)
    header = read(path)
    assert header == said_by_qemu(path)
    assert header is not None
    assert header.backing_format is None


@real
@needs_qemu
@pytest.mark.parametrize("length", [255, 512, 1023])
def test_long_names(tmp_path: Path, length: int) -> None:
    name = "/" + "d/" * ((length - 5) // 2)
    name += "b" * (length - len(name))
    path = create(tmp_path, "-u", "-b", name, "-F", "raw")
    header = read(path)
    assert header == said_by_qemu(path)
    assert header is not None
    assert header.backing == name


@real
@needs_qemu
def test_names_that_are_not_ascii(tmp_path: Path) -> None:
    name = "/b\N{SNOWMAN}/\N{LATIN SMALL LETTER E WITH ACUTE} x,y"
    path = create(tmp_path, "-u", "-b", name.replace(",", ",,"), "-F", "raw")
    header = read(path)
    assert header is not None
    assert header.backing == said_by_qemu(path).backing
    assert header.backing is not None
    assert header.backing.startswith("/b\N{SNOWMAN}/")


@real
@needs_qemu
def test_names_that_are_no_text_survive(tmp_path: Path) -> None:
    path = create(tmp_path, "-u", "-b", "/bXX", "-F", "raw")
    path.write_bytes(path.read_bytes().replace(b"/bXX", b"/b\xff\xfe"))
    header = read(path)
    assert header is not None
    assert header.backing is not None
    assert header.backing.encode(errors="surrogateescape") == b"/b\xff\xfe"


@real
@needs_qemu
def test_after_a_rebase(tmp_path: Path) -> None:
    for base in ("one", "another-with-a-longer-name"):
        create(tmp_path, name=base)
    path = create(tmp_path, "-b", "one", "-F", "qcow2")
    img("rebase", "-u", "-b", "another-with-a-longer-name", "-F", "qcow2", path.name, cwd=tmp_path)
    assert read(path) == said_by_qemu(path)
    img("rebase", "-u", "-b", "", path.name, cwd=tmp_path)
    header = read(path)
    assert header == said_by_qemu(path)
    assert header is not None
    assert header.backing is None


@real
@needs_qemu
@pytest.mark.parametrize("version", ["0.10", "1.1"])
@pytest.mark.parametrize("names", [[], ["tag"], ["a", "\N{SNOWMAN} 'x'", "n" * 255, "b"]])
def test_internal_snapshots(tmp_path: Path, version: str, names: list[str]) -> None:
    create(tmp_path, name="base")
    path = create(tmp_path, "-b", "base", "-F", "qcow2", "-o", f"compat={version}")
    for name in names:
        img("snapshot", "-c", name, path.name, cwd=tmp_path)
    if version == "1.1":
        img("bitmap", "--add", path.name, "b0", cwd=tmp_path)
    assert read(path) == said_by_qemu(path)
    data = path.read_bytes()
    header = parse(data)
    assert header is not None
    assert header.snapshot_count == len(names)
    found = parse_snapshots(data[header.snapshots_offset :], header.snapshot_count)
    assert found is not None
    told = json.loads(img("info", "-U", "--output=json", path.name, cwd=tmp_path)).get("snapshots", [])
    assert [(x.id, x.name, x.vm_state_size) for x in found] == [
        (x["id"], x["name"], x["vm-state-size"]) for x in told
    ]
    if names:
        assert parse_snapshots(data[header.snapshots_offset :][:40], header.snapshot_count) is None


@real
@needs_qemu
def test_resized(tmp_path: Path) -> None:
    path = create(tmp_path)
    img("resize", "-q", "-f", "qcow2", path.name, "128M", cwd=tmp_path)
    assert read(path) == said_by_qemu(path)


@real
@needs_qemu
def test_corrupt(tmp_path: Path) -> None:
    path = create(tmp_path)
    data = bytearray(path.read_bytes())
    struct.pack_into(">Q", data, 72, 2)
    path.write_bytes(data)
    header = read(path)
    assert header is not None
    assert header.corrupt
    assert header == said_by_qemu(path)


@real
@needs_qemu
@pytest.mark.parametrize("format", ["raw", "vmdk", "qed", "vdi"])
def test_other_formats_are_not_taken_for_it(tmp_path: Path, format: str) -> None:
    img("create", "-q", "-f", format, "image", "1M", cwd=tmp_path)
    assert read(tmp_path / "image") is None


# --- without QEMU -----------------------------------------------------------------------------------------


def header(version: int = 3, bits: int = 16, offset: int = 0, size: int = 0, length: int = 104) -> bytes:
    fixed = struct.pack(">4sIQIIQ", MAGIC, version, offset, size, bits, 1 << 20)
    rest = fixed.ljust(72, b"\0") + struct.pack(">QQQII", 0, 0, 0, 4, length)
    return rest.ljust(1024, b"\0")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        MAGIC,
        header()[:71],
        header().replace(MAGIC, b"QFI\xfa"),
        header(version=1),
        header(version=4),
        header(bits=8),
        header(bits=22),
        header(offset=200, size=1024),
        header(offset=1020, size=5),
        header(offset=1 << 60, size=5),
    ],
    ids=lambda data: f"{len(data)} bytes, {data[4:12].hex()}",
)
def test_what_is_no_header_that_we_know(data: bytes) -> None:
    assert parse(data) is None


def test_the_backing_format_lies_before_the_name() -> None:
    """A name that looks like an extension is none."""
    extension = struct.pack(">II", 0xE2792ACA, 3) + b"raw".ljust(8, b"\0")
    data = bytearray(header(offset=104, size=len(extension)))
    data[104 : 104 + len(extension)] = extension
    found = parse(bytes(data))
    assert found is not None
    assert found.backing_format is None


def test_an_unknown_extension_is_passed_over() -> None:
    data = bytearray(header(offset=300, size=2))
    data[104:112] = struct.pack(">II", 0x1234, 5)
    data[120:139] = struct.pack(">II", 0xE2792ACA, 5) + b"qcow2" + b"\0" * 6
    data[300:302] = b"/b"
    assert parse(bytes(data)) == Qcow2Header(1 << 20, 65536, "/b", "qcow2", False, False)


@given(st.binary(max_size=400), st.integers(2, 3), st.integers(0, 30))
def test_any_bytes_are_read_or_refused(tail: bytes, version: int, bits: int) -> None:
    parse(struct.pack(">4sI", MAGIC, version) + tail)
    parse(header(version, bits)[:104] + tail)
    parse(tail)
    parse_snapshots(tail, bits)
