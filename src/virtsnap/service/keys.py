"""The call that types on a guest's keyboard."""

from __future__ import annotations

from collections.abc import Sequence

from virtsnap.model.errors import InternalRefused, InvalidArg, OperationUnsupported
from virtsnap.service.context import Context, required_monitor

_LINUX, _QNUM = 0, 9
"""virKeycodeSet: Linux's input codes, and QEMU's own numbers."""
_MOST = 16

_OTHER = {
    85: 0x76, 89: 0x73, 90: 0x78, 91: 0x77, 92: 0x79, 93: 0x70, 94: 0x7B, 95: 0x5C, 96: 0x9C, 97: 0x9D,
    98: 0xB5, 99: 0x54, 100: 0xB8, 102: 0xC7, 103: 0xC8, 104: 0xC9, 105: 0xCB, 106: 0xCD, 107: 0xCF,
    108: 0xD0, 109: 0xD1, 110: 0xD2, 111: 0xD3, 113: 0xA0, 114: 0xAE, 115: 0xB0, 116: 0xDE, 117: 0x59,
    119: 0xC6, 121: 0x7E, 124: 0x7D, 125: 0xDB, 126: 0xDC, 127: 0xDD, 138: 0xF5, 142: 0xDF, 143: 0xE3,
}  # fmt: skip
"""Linux's code to QEMU's number, where they are not the same (up to 88 they are)."""


class KeyCalls(Context):
    """See `service.interface.Service`."""

    async def send_key(self, uuid: str, codeset: int, holdtime: int, keycodes: Sequence[int]) -> None:
        """Press keys all together, for `holdtime` ms (0: QEMU's default). Raises OperationInvalid."""
        self.writable("virDomainSendKey")
        if not 0 < len(keycodes) <= _MOST:
            raise InvalidArg(f"nkeycodes in virDomainSendKey must be less than or equal to {_MOST}")
        numbers = [_number(codeset, code) for code in keycodes]
        async with self.operation(uuid) as world:
            monitor = await required_monitor(world)
            keys = [{"type": "number", "data": number} for number in numbers]
            if holdtime:
                await monitor.execute("send-key", keys=keys, **{"hold-time": holdtime})
            else:
                await monitor.execute("send-key", keys=keys)


def _number(codeset: int, code: int) -> int:
    if codeset not in (_LINUX, _QNUM):
        raise OperationUnsupported(f"keycode set {codeset} is not supported: use Linux's codes")
    if codeset == _QNUM or (0 < code <= 88 and code not in _OTHER):
        number = code
    elif code in _OTHER:
        number = _OTHER[code]
    else:
        raise InternalRefused(f"cannot translate keycode {code} of linux codeset to qnum keycode")
    if not 0 < number <= 0xFF:
        raise InvalidArg(f"invalid keycode: 0x{number:X}")
    return number
