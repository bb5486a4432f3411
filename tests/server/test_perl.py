"""Sys::Virt, libvirt's module for Perl, on virtsnapd, unmodified."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.server.conftest import Served

pytestmark = pytest.mark.real
PERL = "/usr/bin/perl"


def test_a_life_with_snapshots(served: Served) -> None:
    if subprocess.run([PERL, "-MSys::Virt", "-e1"], capture_output=True, check=False).returncode:
        pytest.skip("no libsys-virt-perl here (script/setup --with-parity installs it)")
    served.define("other")
    served.define("vm")
    served.ok("start", "vm")
    done = subprocess.run(
        [PERL, Path(__file__).with_name("sys_virt_life.pl"), served.uri, "vm"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "type": "QEMU",
        "domains": ["other", "vm"],
        "running": ["vm"],
        "state": 1,
        "snapshots": ["one", "two"],
        "current": "two",
        "parent": "one",
        "reverted": [1, 4, 1],
        "left": 0,
        "nothing": [72, 10, "Domain snapshot not found: no domain snapshot with matching name 'one'"],
        "readonly": [29, "operation forbidden: read only access prevents virDomainDestroy"],
    }
    served.ok("destroy", "vm")
