"""Pools and volumes: what a client must not get at. What it gets otherwise: tests/parity, through/pools."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.server.conftest import Served
from tests.server.raw import Raw
from virtsnap.wire.frames import Kind, Status
from virtsnap.wire.procedures import REMOTE

pytestmark = pytest.mark.real
POOL = "<pool type='dir'><name>p</name><target><path>{path}</path></target></pool>"
DOMAIN = (
    "<domain type='qemu'><name>{name}</name><memory>32768</memory><os><type machine='pc'>hvm</type></os>"
    "<devices><disk type='file'><driver name='qemu' type='{format}'/><source file='{path}'/>"
    "<target dev='vda'/></disk></devices></domain>"
)
VOLUME = "<volume><name>{name}</name><capacity>4096</capacity><allocation>0</allocation></volume>"


@pytest.fixture
def images(served: Served) -> Path:
    folder = served.folder / "images"
    folder.mkdir(exist_ok=True)
    with Raw(served.socket) as client:
        pool = client.open().call("storage_pool_define_xml", POOL.format(path=folder), 0)
        client.call("storage_pool_create", pool, 0)
    yield folder
    with Raw(served.socket) as client:
        client.open().call("storage_pool_destroy", pool)
        assert client.call("storage_pool_undefine", pool) is None


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", ".", "", "a/b", "link", "fifo"])
def test_only_plain_files_of_the_folder_are_volumes(served: Served, images: Path, name: str) -> None:
    (images.parent / "secret").write_text("secret")
    for made, how in (("link", lambda p: p.symlink_to("/etc/passwd")), ("fifo", os.mkfifo)):
        if not os.path.lexists(images / made):
            how(images / made)
    with Raw(served.socket) as client:
        pool = client.open().call("storage_pool_lookup_by_name", "p")
        for answer in (
            client.call("storage_vol_lookup_by_name", pool, name),
            client.call("storage_vol_lookup_by_path", f"{images}/{name}"),
            client.call("storage_vol_get_xml_desc", ("p", name, ""), 0),
            client.call("storage_vol_delete", ("p", name, ""), 0),
            client.call("storage_vol_download", ("p", name, ""), 0, 0, 0),
            client.call("storage_vol_upload", ("p", name, ""), 0, 0, 0),
        ):
            assert answer.code == 50, answer
        assert client.call("storage_pool_list_all_volumes", pool, 1, 0) == ([], 0)
    assert (images.parent / "secret").read_text() == "secret"


def test_an_image_that_is_used_is_left_alone(served: Served, images: Path) -> None:
    with Raw(served.socket) as client:
        pool = client.open().call("storage_pool_lookup_by_name", "p")
        volume = client.call("storage_vol_create_xml", pool, VOLUME.format(name="u.raw"), 0)
        domain = client.call(
            "domain_define_xml",
            "<domain type='qemu'><name>u</name><memory>32768</memory><os><type machine='pc'>hvm</type></os>"
            f"<devices><disk type='file'><source file='{images}/u.raw'/><target dev='vda'/></disk></devices>"
            "</domain>",
        )
        client.call("domain_create", domain)
        for refused in (
            client.call("storage_vol_delete", volume, 0),
            client.call("storage_vol_resize", volume, 8192, 0),
            client.call("storage_vol_upload", volume, 0, 0, 0),
        ):
            assert (refused.code, "is used by domain 'u'" in refused.message) == (87, True)
        client.call("domain_destroy", domain)
        assert client.call("storage_vol_resize", volume, 8192, 0).code == 87
        assert client.call("storage_vol_delete", volume, 0) is None  # as virt-manager does
        client.call("domain_undefine", domain)
    assert not (images / "u.raw").exists()


def test_what_a_domain_or_a_snapshot_stands_on_is_left_alone(served: Served, images: Path) -> None:
    def made(name: str, *below: str) -> None:
        backing = ["-b", str(images / below[0]), "-F", below[1]] if below else []
        size = [] if below else ["1M"]
        form = "raw" if name.endswith("raw") else "qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", form, *backing, images / name, *size], check=True)

    made("base.raw")
    made("middle.qcow2", "base.raw", "raw")
    made("top.qcow2", "middle.qcow2", "qcow2")
    with Raw(served.socket) as client:
        client.open()
        domain = client.call(
            "domain_define_xml", DOMAIN.format(name="s", format="qcow2", path=images / "top.qcow2")
        )

        def refused(name: str) -> str:
            texts = {
                client.call("storage_vol_delete", ("p", name, ""), 0).message,
                client.call("storage_vol_resize", ("p", name, ""), 2 << 20, 0).message,
                client.call("storage_vol_upload", ("p", name, ""), 0, 0, 0).message,
            }
            assert len(texts) == 1
            return texts.pop()

        for name in ("base.raw", "middle.qcow2"):
            assert refused(name).endswith(f"volume '{name}' is used by domain 's'")
        # What a guest writes into its raw disk does not make it another format.
        raw = client.call(
            "domain_define_xml", DOMAIN.format(name="r", format="raw", path=images / "base.raw")
        )
        (images / "base.raw").write_bytes((images / "middle.qcow2").read_bytes())
        assert "<format type='raw'/>" in client.call("storage_vol_get_xml_desc", ("p", "base.raw", ""), 0)
        client.call("domain_undefine", raw)
        (images / "base.raw").write_bytes(bytes(1 << 20))
        wanted = "<disks><disk name='vda' snapshot='external'/></disks>"
        taken = client.call(
            "domain_snapshot_create_xml",
            domain,
            f"<domainsnapshot><name>one</name>{wanted}</domainsnapshot>",
            16,
        )
        assert refused("top.qcow2").endswith("volume 'top.qcow2' is used by snapshot 'one' of domain 's'")
        client.call("domain_snapshot_delete", taken, 0)
        client.call("domain_undefine", domain)
        for name in ("top.qcow2", "middle.qcow2", "base.raw"):
            assert client.call("storage_vol_delete", ("p", name, ""), 0) is None


def test_data_comes_and_goes_in_pieces(served: Served, images: Path) -> None:
    size = 1_000_000
    with Raw(served.socket) as client:
        pool = client.open().call("storage_pool_lookup_by_name", "p")
        xml = VOLUME.format(name="d.raw").replace("4096", str(size))
        volume = client.call("storage_vol_create_xml", pool, xml, 0)
        data = os.urandom(size)
        upload = client.send("storage_vol_upload", volume, 0, size, 0)
        assert client.value(client.receive()) is None
        for start in range(0, size, 300_000):
            client.socket.sendall(upload.stream(data[start : start + 300_000]).pack())
        finished = client.exchange(upload.stream(status=Status.OK))
        assert (finished.kind, finished.status) == (Kind.STREAM, Status.OK)
        assert (images / "d.raw").read_bytes()[:size] == data
        download = client.send("storage_vol_download", volume, 10, 600_000, 0)
        assert client.value(client.receive()) is None
        got = b""
        while piece := client.receive().payload:
            got += piece
        assert got == data[10:600_010]
        client.exchange(download.stream(status=Status.OK))
        upload = client.send("storage_vol_upload", volume, 0, 4, 0)
        assert client.value(client.receive()) is None
        refused = client.exchange(upload.stream(b"12345"))
        assert refused.status is Status.ERROR
        client.call("storage_vol_delete", volume, 0)


def test_pools_are_there_after_a_restart(served: Served, images: Path) -> None:
    served.restart()
    with Raw(served.socket) as client:
        pool = client.open().call("storage_pool_lookup_by_target_path", str(images))
        assert client.call("storage_pool_is_active", pool) == 1
    notes = list((served.folder / "root" / "pools").iterdir())
    assert [json.loads(note.read_text())["name"] for note in notes] == ["p"]


@pytest.mark.parametrize(
    ("words", "after"),
    [({}, 0), ({"autostart": True}, 1), ({"persistent": False}, None)],
    ids=["defined", "autostart", "transient"],
)
def test_another_boot_starts_what_is_marked(
    served: Served, images: Path, words: dict[str, bool], after: int | None
) -> None:
    note = next((served.folder / "root" / "pools").iterdir())
    before = note.read_text()
    note.write_text(json.dumps(json.loads(before) | {"boot": "another"} | words))
    served.restart()
    with Raw(served.socket) as client:
        pools, _ = client.open().call("connect_list_all_storage_pools", 1, 0)
        assert [client.call("storage_pool_is_active", pool) for pool in pools] == (
            [] if after is None else [after]
        )
    note.write_text(before)


def test_a_volume_is_wiped(served: Served, images: Path) -> None:
    (images / "full").write_bytes(b"secret" * 10_000)
    with (images / "sparse").open("wb") as file:
        file.truncate(1 << 22)
        file.write(b"secret")
    with Raw(served.socket) as client:
        client.open()
        for name in ("full", "sparse"):
            size = (images / name).stat().st_size
            assert client.call("storage_vol_wipe", ("p", name, ""), 0) is None
            assert (images / name).read_bytes() == bytes(size)
        refused = client.call("storage_vol_wipe_pattern", ("p", "full", ""), 8, 0)
        assert (refused.code, refused.message) == (
            74,
            "argument unsupported: 'random' algorithm not supported",
        )


def test_pools_are_told_of(served: Served, images: Path) -> None:
    with Raw(served.socket) as listener, Raw(served.socket) as client:
        pool = client.open().call("storage_pool_lookup_by_name", "p")
        listener.open()
        assert listener.call("connect_storage_pool_event_register_any", 0, None) == 0
        assert listener.call("connect_storage_pool_event_register_any", 1, pool) == 1
        assert listener.call("connect_storage_pool_event_register_any", 7, None).code == 1
        assert client.call("storage_pool_refresh", pool, 0) is None
        assert client.call("storage_pool_destroy", pool) is None
        assert client.call("storage_pool_create", pool, 0) is None
        told = []
        for _ in range(3):
            frame = listener.receive()
            assert frame is not None
            assert frame.kind is Kind.MESSAGE
            procedure = REMOTE.get(frame.procedure)
            assert procedure is not None
            told.append((procedure.name, procedure.unpack_arguments(frame.payload)))
        assert told == [
            ("storage_pool_event_refresh", (1, pool)),
            ("storage_pool_event_lifecycle", (0, pool, 3, 0)),
            ("storage_pool_event_lifecycle", (0, pool, 2, 0)),
        ]
        assert listener.call("connect_storage_pool_event_deregister_any", 0) is None
        client.call("storage_pool_destroy", pool)
        client.call("storage_pool_create", pool, 0)
        assert listener.call("connect_storage_pool_event_deregister_any", 0).code == 1
