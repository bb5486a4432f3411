"""What each procedure does: a coroutine of the procedure's name in one of these modules.

It takes the session and the arguments in the order of `virtsnap.wire.tables`, and returns what is answered:
nothing, the answer's only field, or a tuple of its fields. A procedure with a stream gets the stream before
its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from types import ModuleType
from typing import Any

from virtsnap.server.calls import (
    block,
    connect,
    devices,
    domain,
    events,
    guest,
    guest_info,
    hardware,
    host,
    lists,
    moments,
    own,
    save,
    snapshot,
    stats,
    storage,
    streams,
)
from virtsnap.wire.procedures import QEMU, REMOTE, VIRTSNAP, Program

Handler = Callable[..., Coroutine[Any, Any, Any]]


def _handlers(program: Program, *modules: ModuleType) -> Mapping[int, Handler]:
    names = {one.name: one.number for one in program if one.access != "e"}
    return {
        names[name]: function
        for module in modules
        for name, function in vars(module).items()
        if name in names and callable(function)
    }


HANDLERS: Mapping[int, Mapping[int, Handler]] = {
    REMOTE.number: _handlers(
        REMOTE,
        *(
            block,
            connect,
            devices,
            domain,
            events,
            guest,
            guest_info,
            hardware,
            host,
            lists,
            moments,
            save,
            snapshot,
            stats,
            storage,
        ),
        streams,
    ),
    QEMU.number: _handlers(QEMU, guest),
    VIRTSNAP.number: _handlers(VIRTSNAP, own),
}
"""By the program's and the procedure's number."""
