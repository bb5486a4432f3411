"""The host on which the goldens were made: Debian's QEMU 10.0 with its three UEFI images."""

from virtsnap.machine.firmware import Firmware
from virtsnap.machine.host import Host

_COMMON = frozenset({"acpi-s3", "amd-sev", "verbose-dynamic"})
_SECURE = _COMMON | {"requires-smm", "secure-boot"}
_OVMF = "/usr/share/OVMF/OVMF"

HOST = Host(
    firmwares=(
        Firmware(
            f"{_OVMF}_CODE_4M.ms.fd",
            "raw",
            f"{_OVMF}_VARS_4M.ms.fd",
            "raw",
            ("pc-q35-*",),
            _SECURE | {"enrolled-keys"},
        ),
        Firmware(f"{_OVMF}_CODE_4M.secboot.fd", "raw", f"{_OVMF}_VARS_4M.fd", "raw", ("pc-q35-*",), _SECURE),
        Firmware(
            f"{_OVMF}_CODE_4M.fd",
            "raw",
            f"{_OVMF}_VARS_4M.fd",
            "raw",
            ("pc-i440fx-*", "pc-q35-*"),
            _COMMON,
        ),
    ),
    nvram_dir="/ROOT/lib/qemu/nvram",
)
