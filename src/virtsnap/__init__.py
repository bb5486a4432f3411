"""virtsnap: snapshots for QEMU virtual machines, in libvirt's own terms.

`virtsnap.open(uri)` gives a Connection, `await virtsnap.aio.open(uri)` the same for asyncio. Nothing is
imported before it is used: a program that asks for the version pays for nothing else, and the layers below
may import this package without getting to the ones above. What type checkers see is `__init__.pyi`.
"""

from importlib import import_module

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    return import_module("virtsnap.api.names").public(name)


def __dir__() -> list[str]:
    return sorted([*globals(), *import_module("virtsnap.api.names").PUBLIC])
