"""Errors as they travel: from the error tree to libvirt's structure and back.

`domain` says which part of libvirt speaks; clients hardly look at it, but never give up a connection because
of 7 (RPC) or 10 (QEMU).
"""

from __future__ import annotations

from functools import cache

from virtsnap.model import errors
from virtsnap.model.errors import ErrorCode, Refused, VirtsnapError
from virtsnap.wire.values import ErrorInfo

FROM_NONE, FROM_XML, FROM_RPC, FROM_QEMU, FROM_DOMAIN = 0, 5, 7, 10, 20
FROM_STORAGE, FROM_NETWORK, FROM_NODEDEV, FROM_INTERFACE, FROM_STREAMS = 18, 19, 22, 26, 38
RPC, NO_CONNECT, NO_SUPPORT = 39, 5, 3
_TEXT_MAX = 1023
"""Bytes of an error's text (VIR_ERROR_MAX_LENGTH, less the NUL). Texts repeat what the client has sent."""

_SPOKEN_BY = {
    ErrorCode.XML_ERROR: FROM_DOMAIN,
    ErrorCode.XML_DETAIL: FROM_DOMAIN,
    ErrorCode.XML_INVALID_SCHEMA: FROM_XML,
    ErrorCode.OPERATION_DENIED: FROM_DOMAIN,
    ErrorCode.NO_SUPPORT: FROM_DOMAIN,
    ErrorCode.NO_DOMAIN_METADATA: FROM_DOMAIN,
    ErrorCode.NO_STORAGE_POOL: FROM_STORAGE,
    ErrorCode.NO_STORAGE_VOL: FROM_STORAGE,
    ErrorCode.STORAGE_VOL_EXIST: FROM_STORAGE,
}
_SAID_BY = (
    ("domain is not running", FROM_DOMAIN),
    ("domain moment ", FROM_DOMAIN),
    ("could not find base image in chain for ", FROM_STORAGE),
)
"""Beginnings of what parts say that all drivers of libvirt share."""


class WireError(VirtsnapError):
    """An error with number, speaker and text as they are: of a peer, or of the protocol itself."""

    def __init__(self, number: int, domain: int, message: str) -> None:
        super().__init__(message)
        self.number = number
        self.domain = domain

    def __str__(self) -> str:
        return self.detail

    def get_error_code(self) -> int:
        """The virErrorNumber."""
        return self.number


def unknown_procedure(number: int) -> WireError:
    """Clients take it, by these very words, for 'not supported'."""
    return WireError(RPC, FROM_RPC, f"unknown procedure: {number}")


def not_supported(api: str, domain: int = FROM_DOMAIN) -> WireError:
    """The call exists and nobody here carries it out."""
    if api.startswith(("virConnectListAllInterfaces", "virConnectNumOfInterfaces", "virInterface")):
        domain = FROM_INTERFACE
    return WireError(NO_SUPPORT, domain, f"{ErrorCode.NO_SUPPORT.prefix}{api}")


def info_of(error: VirtsnapError) -> ErrorInfo:
    """What is sent for an error. What cannot travel does not keep the rest of it from its way."""
    text = _short(str(error))
    if isinstance(error, WireError):
        return ErrorInfo(error.number, error.domain, text)
    shared = (part for text, part in _SAID_BY if error.detail.startswith(text))
    domain = next(shared, _SPOKEN_BY.get(error.code, FROM_QEMU))
    return ErrorInfo(error.code.number, domain, text, str1="%s", str2=text)


def _short(text: str) -> str:
    """Without what a string of the protocol cannot hold, and not longer than libvirt's own."""
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        data = text.encode("utf-8", "replace")
    data = data.replace(b"\0", b"")
    if len(data) <= _TEXT_MAX:
        return data.decode("utf-8", "surrogateescape")
    return data[:_TEXT_MAX].decode("utf-8", "ignore")


def error_of(info: ErrorInfo) -> VirtsnapError:
    """The error that a peer has sent, of the class that has its code and says exactly its message."""
    message = info.message or "unknown error"
    kind = _classes().get(info.code)
    if kind is None:
        return WireError(info.code, info.domain, message)
    prefix = kind.code.prefix
    if message.startswith(prefix):
        return kind(message.removeprefix(prefix))
    return _bare(kind)(message)


@cache
def _classes() -> dict[int, type[VirtsnapError]]:
    """By number; the class that says the prefix."""
    found: dict[int, type[VirtsnapError]] = {}
    for kind in vars(errors).values():
        refuses = isinstance(kind, type) and issubclass(kind, Refused) and kind is not Refused
        if refuses and kind is not errors.BareInvalidArg:
            found.setdefault(kind.code.number, kind)
    found[ErrorCode.OPERATION_ABORTED.number] = errors.Aborted
    return found


def _bare(kind: type[VirtsnapError]) -> type[VirtsnapError]:
    """The same, without the prefix."""
    return type(kind.__name__, (kind,), {"__str__": lambda error: error.detail})
