"""The one error tree, in libvirt's codes and words.

    VirtsnapError
    ├── Refused      nothing was touched; the caller must change the request
    │   ├── InvalidArg, XmlError, XmlDetail, ConfigUnsupported, OperationInvalid, OperationUnsupported,
    │   │   NoDomain, NoSnapshot, DomainExists, RevertRisky, NoSupport, OperationDenied, ...
    ├── Failed       the world said no midway; carries the step, the cause and the outcome
    └── Damaged      what is on disk contradicts itself; never repaired in silence

Each class has a libvirt error code (virterror.h) and the prefix that libvirt puts before the
detail, so `str(error)` is what `virsh` prints after ``error: ``. What is not here: translation to
exit codes (`cli`) and to libvirt's wire struct.
"""

from __future__ import annotations

from enum import Enum


class ErrorCode(Enum):
    """libvirt's virErrorNumber with the text libvirt puts before the detail."""

    INTERNAL_ERROR = (1, "internal error: ")
    NO_SUPPORT = (3, "this function is not supported by the connection driver: ")
    INVALID_ARG = (8, "invalid argument: ")
    OPERATION_FAILED = (9, "operation failed: ")
    XML_ERROR = (27, "XML error: ")
    DOM_EXIST = (9, "operation failed: ")
    OPERATION_DENIED = (29, "operation forbidden: ")
    XML_DETAIL = (35, "")
    SYSTEM_ERROR = (38, "")
    NO_DOMAIN = (42, "Domain not found: ")
    NO_STORAGE_POOL = (49, "Storage pool not found: ")
    NO_STORAGE_VOL = (50, "Storage volume not found: ")
    OPERATION_INVALID = (55, "Requested operation is not valid: ")
    CONFIG_UNSUPPORTED = (67, "unsupported configuration: ")
    OPERATION_TIMEOUT = (68, "Timed out during operation: ")
    INVALID_DOMAIN_SNAPSHOT = (71, "Invalid domain snapshot: ")
    NO_DOMAIN_SNAPSHOT = (72, "Domain snapshot not found: ")
    ARGUMENT_UNSUPPORTED = (74, "argument unsupported: ")
    SNAPSHOT_REVERT_RISKY = (77, "revert requires force: ")
    OPERATION_ABORTED = (78, "operation aborted: ")
    NO_DOMAIN_METADATA = (80, "metadata not found: ")
    OVERFLOW = (82, "numerical overflow: ")
    BLOCK_COPY_ACTIVE = (83, "block copy still active: ")
    OPERATION_UNSUPPORTED = (84, "Operation not supported: ")
    AGENT_UNRESPONSIVE = (86, "Guest agent is not responding: ")
    RESOURCE_BUSY = (87, "resource busy: ")
    STORAGE_VOL_EXIST = (90, "")
    XML_INVALID_SCHEMA = (92, "XML document failed to validate against schema: ")
    DEVICE_MISSING = (99, "device not found: ")
    AGENT_COMMAND_FAILED = (113, "guest agent command failed: ")
    NO_MESSAGE = (1, "")

    @property
    def number(self) -> int:
        """The virErrorNumber."""
        return self.value[0]

    @property
    def prefix(self) -> str:
        """What libvirt writes before the detail."""
        return self.value[1]


class VirtsnapError(Exception):
    """Root of all errors that a caller may meet. `detail` is the sentence without libvirt's prefix."""

    code: ErrorCode = ErrorCode.INTERNAL_ERROR

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def __str__(self) -> str:
        return self.code.prefix + self.detail

    def get_error_code(self) -> int:
        """The virErrorNumber, under the name that libvirt-python gives it."""
        return self.code.number

    def get_error_message(self) -> str:
        """The whole text, under the name that libvirt-python gives it."""
        return str(self)


class Refused(VirtsnapError):
    """Nothing was touched. The request, the definition or the state must change first."""


class InvalidArg(Refused):
    """An argument is out of its range (code 8)."""

    code = ErrorCode.INVALID_ARG


class BareInvalidArg(Refused):
    """A flag check of libvirt's: code 8, but printed without the prefix."""

    code = ErrorCode.INVALID_ARG

    def __str__(self) -> str:
        return self.detail


class XmlError(Refused):
    """The XML is well formed and means nothing we can accept (code 27)."""

    code = ErrorCode.XML_ERROR


class XmlDetail(Refused):
    """The XML says something that is forbidden here (code 35)."""

    code = ErrorCode.XML_DETAIL


class XmlInvalidSchema(Refused):
    """--validate: the document does not match the schema (code 92)."""

    code = ErrorCode.XML_INVALID_SCHEMA


class ConfigUnsupported(Refused):
    """The definition asks for something this engine or this QEMU cannot do (code 67)."""

    code = ErrorCode.CONFIG_UNSUPPORTED


class OperationInvalid(Refused):
    """The domain is in the wrong state for this (code 55)."""

    code = ErrorCode.OPERATION_INVALID


class OperationUnsupported(Refused):
    """The combination cannot work (code 84)."""

    code = ErrorCode.OPERATION_UNSUPPORTED


class ArgumentUnsupported(Refused):
    """What the call asks for is not there (code 74)."""

    code = ErrorCode.ARGUMENT_UNSUPPORTED


class AgentRefused(Refused):
    """There is no guest agent to ask, or it does not answer (code 86)."""

    code = ErrorCode.AGENT_UNRESPONSIVE


class OperationDenied(Refused):
    """The connection is read-only (code 29)."""

    code = ErrorCode.OPERATION_DENIED


class OperationFailed(Refused):
    """A name is taken, or a helper program refused (code 9)."""

    code = ErrorCode.OPERATION_FAILED


class NoSupport(Refused):
    """The function exists in libvirt and not here (code 3)."""

    code = ErrorCode.NO_SUPPORT


class NoDomain(Refused):
    """No domain of that name, id or uuid (code 42)."""

    code = ErrorCode.NO_DOMAIN


class NoSnapshot(Refused):
    """The domain has no snapshot of that name (code 72)."""

    code = ErrorCode.NO_DOMAIN_SNAPSHOT


class NoMetadata(Refused):
    """The domain has no such title, description or element (code 80)."""

    code = ErrorCode.NO_DOMAIN_METADATA


class NoPool(Refused):
    """No storage pool of that name, uuid or folder (code 49)."""

    code = ErrorCode.NO_STORAGE_POOL


class NoVolume(Refused):
    """No such file in a storage pool (code 50)."""

    code = ErrorCode.NO_STORAGE_VOL


class VolumeExists(Refused):
    """There is a file of that name in the storage pool (code 90)."""

    code = ErrorCode.STORAGE_VOL_EXIST


class NoDevice(Refused):
    """The domain has no such device (code 99)."""

    code = ErrorCode.DEVICE_MISSING


class RevertRisky(Refused):
    """Would lose something; asks for --force (code 77)."""

    code = ErrorCode.SNAPSHOT_REVERT_RISKY


class BlockCopyActive(Refused):
    """A copy job holds the disk (code 83)."""

    code = ErrorCode.BLOCK_COPY_ACTIVE


class Overflow(Refused):
    """A number is larger than QEMU takes (code 82)."""

    code = ErrorCode.OVERFLOW


class ResourceBusy(Refused):
    """Another process holds the domain (code 87)."""

    code = ErrorCode.RESOURCE_BUSY


class SystemRefused(Refused):
    """The operating system said no before anything was touched (code 38); detail ends in strerror."""

    code = ErrorCode.SYSTEM_ERROR


class InternalRefused(Refused):
    """libvirt uses 'internal error' (code 1) for some plain bad input; kept for parity."""

    code = ErrorCode.INTERNAL_ERROR


class Outcome(Enum):
    """What state a failed operation left behind."""

    UNDONE = "undone"
    DONE_WITH_WARNING = "done, with a warning"
    NEEDS_RECOVERY = "needs recovery"


class Failed(VirtsnapError):
    """The world said no midway. `outcome` says what is left; `step` names where it happened."""

    code = ErrorCode.OPERATION_FAILED

    def __init__(
        self,
        detail: str,
        *,
        step: str = "",
        outcome: Outcome = Outcome.UNDONE,
        code: ErrorCode = ErrorCode.OPERATION_FAILED,
    ) -> None:
        super().__init__(detail)
        self.step = step
        self.outcome = outcome
        self.code = code


class NotCaptured(Failed):
    """QEMU could not begin to write the memory in the background, though it had said that it can."""


class NotConverged(Failed):
    """The guest changes its memory faster than that is written, and would stand still for long."""


class Aborted(Failed):
    """The user or another client asked for the end of a job (code 78)."""

    def __init__(self, detail: str, *, step: str = "", outcome: Outcome = Outcome.UNDONE) -> None:
        super().__init__(detail, step=step, outcome=outcome, code=ErrorCode.OPERATION_ABORTED)


class Damaged(VirtsnapError):
    """What is on disk contradicts itself. Never repaired in silence."""

    code = ErrorCode.INTERNAL_ERROR


class AgentCommandFailed(Failed):
    """The agent understood a command and refused it."""

    def __init__(self, command: str, class_: str, description: str) -> None:
        super().__init__(
            f"unable to execute QEMU agent command '{command}': {description}",
            code=ErrorCode.AGENT_COMMAND_FAILED,
        )
        self.unknown = class_ in ("CommandNotFound", "CommandDisabled")
        """The agent does not have this command, or not now."""
