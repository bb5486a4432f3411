"""event: wait for what happens to domains, whoever does it, and print it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

from virtsnap.cli.args import Args
from virtsnap.cli.errors import CliError
from virtsnap.cli.event_text import NAMES, document, text
from virtsnap.cli.session import Session
from virtsnap.cli.spec import JSON, Command, flag, number, string
from virtsnap.model.event import DomainEvent


async def _event(session: Session, args: Args) -> None:
    args.exclusive("all", "event")
    args.exclusive("list", "all")
    args.exclusive("list", "event")
    if args.has("list"):
        session.print("".join(f"{name}\n" for name in NAMES))
        return
    name = args.string("event")
    if name is not None and name not in NAMES:
        raise CliError(f"unknown event type {name}")
    if name is None and not args.has("all"):
        raise CliError("one of --list, --all, or --event <type> is required")
    seconds = args.number("timeout")
    if seconds == 0:
        raise CliError("Numeric value '0' for <timeout> option is malformed or out of range")
    uuid = (await session.domain(args)).uuid if args.has("domain") else None
    service = await session.service()
    with _interruption() as interrupted:
        async with service.events() as events:
            count, end = 0, ""
            async with contextlib.aclosing(_following(events, interrupted, seconds)) as following:
                async for event in following:
                    if isinstance(event, str):
                        end = event
                    elif (name is None or event.kind is NAMES[name]) and uuid in (None, event.uuid):
                        count += 1
                        _show(session, args, event)
                        if not args.has("loop"):
                            break
    if not session.wants_json(args):
        session.print(f"{end}events received: {count}\n")
    if not count:
        # virsh says no more than this.
        raise CliError


async def _following(
    events: AsyncIterator[DomainEvent], interrupted: asyncio.Event, seconds: int | None
) -> AsyncGenerator[DomainEvent | str, None]:
    """The events, and at last why there are no more, if that has a reason."""
    loop = asyncio.get_running_loop()
    deadline = None if seconds is None else loop.time() + seconds
    end = asyncio.ensure_future(interrupted.wait())
    event = asyncio.ensure_future(anext(events))
    try:
        while True:
            left = None if deadline is None else max(deadline - loop.time(), 0)
            await asyncio.wait({event, end}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not event.done():
                break
            yield event.result()
            event = asyncio.ensure_future(anext(events))
        yield "event loop interrupted\n" if end.done() else "event loop timed out\n"
    finally:
        for task in (event, end):
            task.cancel()
        await asyncio.wait({event, end})


def _show(session: Session, args: Args, event: DomainEvent) -> None:
    if session.wants_json(args):
        session.print(json.dumps(document(event), ensure_ascii=False) + "\n")
    else:
        session.print((_moment(event.at) + ": " if args.has("timestamp") else "") + text(event))
    session.flush()


def _moment(at: float) -> str:
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(at))}.{int(at % 1 * 1000):03d}+0000"


@contextlib.contextmanager
def _interruption() -> Iterator[asyncio.Event]:
    """Set by Ctrl-C, which ends the waiting and not the program."""
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGINT)
    loop.add_signal_handler(signal.SIGINT, interrupted.set)
    try:
        yield interrupted
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before)


COMMANDS = {
    "event": Command(
        _event,
        (
            string("domain", "filter by domain name, id or uuid"),
            string("event", "which event type to wait for"),
            flag("all", "wait for all events instead of just one type"),
            flag("loop", "loop until timeout or interrupt, rather than one-shot"),
            number("timeout", "timeout seconds"),
            flag("list", "list valid event types"),
            flag("timestamp", "show timestamp for each printed event"),
            JSON,
        ),
        "List event types, or wait for domain events to occur",
        ("event --all --loop", "event --event lifecycle --domain demo", "event --all --loop --json"),
    )
}
