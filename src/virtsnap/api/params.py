"""libvirt's typed parameters as values: what a dictionary of them says, and what it may not."""

from __future__ import annotations

from collections.abc import Mapping

from virtsnap.model.errors import InvalidArg
from virtsnap.model.flags import BlockCopy, BlockRebase
from virtsnap.model.frozen import dataclass

_TYPES: dict[str, type] = {"file": str, "dxml": str, "image_format": str, "parallel.channels": int}


@dataclass(frozen=True)
class SaveParams:
    """The parameters of virDomainSaveParams and virDomainRestoreParams. None: not given."""

    file: str | None = None
    dxml: str | None = None
    image_format: str | None = None
    channels: int | None = None

    @classmethod
    def of(cls, params: Mapping[str, str | int]) -> SaveParams:
        """Raises InvalidArg for an unknown name, or a value of the wrong type."""
        for name, value in params.items():
            if name not in _TYPES:
                raise InvalidArg(f"parameter '{name}' not supported")
            if not isinstance(value, _TYPES[name]) or isinstance(value, bool):
                raise InvalidArg(f"invalid type for parameter '{name}', expected '{_TYPES[name].__name__}'")

        def text(name: str) -> str | None:
            value = params.get(name)
            return None if value is None else str(value)

        channels = params.get("parallel.channels")
        return cls(
            text("file"), text("dxml"), text("image_format"), None if channels is None else int(channels)
        )

    def refuse_all_but_file(self) -> None:
        """A managed save has a place, a form and a definition of its own. Raises InvalidArg."""
        if (self.dxml, self.image_format, self.channels) != (None, None, None):
            raise InvalidArg("a managed save (no 'file') takes no other parameters")

    def refuse_image_format(self) -> None:
        """A file tells its form itself. Raises InvalidArg."""
        if self.image_format is not None:
            raise InvalidArg("parameter 'image_format' not supported")


_COPY = {"bandwidth": "bandwidth", "granularity": "granularity", "buf-size": "buf_size"}


def copy_params(params: Mapping[str, int]) -> dict[str, int]:
    """The parameters of virDomainBlockCopy, by our names. Raises InvalidArg as `SaveParams.of`."""
    for name, value in params.items():
        if name not in _COPY:
            raise InvalidArg(f"parameter '{name}' not supported")
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidArg(f"invalid type for parameter '{name}', expected 'int'")
    return {_COPY[name]: value for name, value in params.items()}


def rebase_xml(destination: str | None, flags: int) -> str:
    """The `<disk>` that virDomainBlockRebase with COPY means. Raises InvalidArg without a destination."""
    from xml.sax.saxutils import quoteattr

    if destination is None:
        raise InvalidArg("base in virDomainBlockRebase must not be NULL")
    kind, attribute = ("block", "dev") if flags & BlockRebase.COPY_DEV else ("file", "file")
    driver = "<driver type='raw'/>" if flags & BlockRebase.COPY_RAW else ""
    return f"<disk type='{kind}'><source {attribute}={quoteattr(destination)}/>{driver}</disk>"


def rebase_copy_flags(flags: int) -> int:
    """Its flags as those of virDomainBlockCopy; the job of a rebase may always be a transient one."""
    shared = BlockRebase.SHALLOW | BlockRebase.REUSE_EXT
    return (flags & shared) | BlockCopy.TRANSIENT_JOB


def rebase_bandwidth(bandwidth: int, flags: int) -> int:
    """Its bandwidth in bytes per second."""
    return bandwidth if flags & BlockRebase.BANDWIDTH_BYTES else bandwidth << 20
