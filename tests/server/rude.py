"""Clients that hang up in the middle: of a frame, of a call, of unread answers, of a stream."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

from virtsnap.wire.frames import Frame, Kind
from virtsnap.wire.keepalive import PING
from virtsnap.wire.procedures import PROGRAMS, REMOTE, VIRTSNAP, Program
from virtsnap.wire.values import WireDomain

_FORCE = 1


class _Rude:
    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, uuid: str, dice: random.Random
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._dice = dice
        self._serial = 0
        self._dom = WireDomain("", UUID(uuid).bytes, -1)

    def _say(self, name: str, *arguments: object, program: Program = REMOTE) -> None:
        procedure = program[name]
        self._serial += 1
        payload = procedure.pack_arguments(*arguments)
        self._writer.write(
            Frame(program.number, 1, procedure.number, Kind.CALL, self._serial, payload=payload).pack()
        )

    def _open(self) -> None:
        self._say("auth_list")
        self._say("connect_open", "qemu:///system", 0)

    async def half_a_frame(self) -> None:
        self._open()
        data = Frame(REMOTE.number, 1, 273, Kind.CALL, 9, payload=bytes(8)).pack()
        self._writer.write(data[: self._dice.randrange(len(data))])

    async def noise(self) -> None:
        self._open()
        await self._reader.read(10)
        self._writer.write(self._dice.randbytes(self._dice.randrange(200)))

    async def any_procedure(self) -> None:
        """Arguments that mostly are not right; nothing that could end or change a domain is."""
        self._open()
        for _ in range(20):
            procedure = self._dice.choice([*self._dice.choice([*PROGRAMS.values()])])
            payload = bytes(4) if procedure.writes else bytes(self._dice.randrange(400))
            self._serial += 1
            self._writer.write(
                Frame(procedure.program, 1, procedure.number, Kind.CALL, self._serial, payload=payload).pack()
            )

    async def unread_answers(self) -> None:
        self._open()
        for _ in range(self._dice.randrange(300)):
            self._say(self._dice.choice(["connect_get_hostname", "connect_get_type"]))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await self._writer.drain()

    async def good_bye_and_on(self) -> None:
        self._open()
        self._say("connect_close")
        for _ in range(50):
            self._say("connect_get_type")

    async def callbacks(self) -> None:
        self._open()
        for event in range(15):
            self._say("connect_domain_event_callback_register_any", event, None)
            self._say("connect_domain_event_register_any", event)
        await self._reader.read(self._dice.randrange(1, 400))

    async def callbacks_to_nobody(self) -> None:
        self._open()
        for event in range(15):
            self._say("connect_domain_event_callback_register_any", event, None)
        await self._writer.drain()

    async def streams(self) -> None:
        self._open()
        self._say("domain_open_console", self._dom, None, _FORCE)
        self._say("domain_screenshot", self._dom, 0, 0)
        await self._reader.read(self._dice.randrange(1, 400))

    async def the_same_serial(self) -> None:
        self._open()
        for _ in range(5):
            self._serial = 7
            self._say("domain_open_console", self._dom, None, _FORCE)
            self._writer.write(Frame(REMOTE.number, 1, 201, Kind.STREAM, 8, payload=b"x").pack())
        await self._reader.read(self._dice.randrange(1, 400))

    async def a_wait(self) -> None:
        self._open()
        for _ in range(5):
            self._say("domain_block_job_wait", self._dom, "vda", program=VIRTSNAP)
        self._say("domain_get_xml_desc", self._dom, 0)

    async def pings(self) -> None:
        self._writer.write(PING.pack() * 1000)


async def rude(path: Path, uuid: str, dice: random.Random) -> None:
    """One connection. `uuid`: of a domain that runs."""
    reader, writer = await asyncio.open_unix_connection(path)
    one = _Rude(reader, writer, uuid, dice)
    ways: list[Callable[[], Awaitable[None]]] = [
        getattr(one, name) for name in vars(_Rude) if not name.startswith("_")
    ]
    with contextlib.suppress(ConnectionError):
        await dice.choice(ways)()
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
