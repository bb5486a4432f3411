"""When to look at what a guest touched first of its memory image (`qemu.first_pages`, ADR 0011).

Best two seconds after it went on, by the clock of whoever lives that long: virtsnapd, or a program that
stays. A command has ended by then, so each operation on the domain looks before it does anything, the one
that ends the guest too. A look that tells more of the first seconds than the record replaces it.
"""

from __future__ import annotations

import asyncio
import logging
import time

from virtsnap.engine.world import events_path, read_instance, read_mapped
from virtsnap.formats.first_pages import BEST_SECONDS, worth_noting
from virtsnap.formats.save_image import SaveFormat
from virtsnap.qemu import events, first_pages, process
from virtsnap.qemu.memory import read_header


def look_later(run_dir: str) -> None:
    """Look when the time is best, if this event loop still runs then. The guest has just gone on."""
    if read_mapped(run_dir) is not None:
        loop = asyncio.get_running_loop()
        loop.call_later(BEST_SECONDS, loop.run_in_executor, None, look, run_dir)


async def look_first(run_dir: str) -> None:
    """Look before something is done to the guest, if there is anything to be learned."""
    if _due(run_dir) is not None:
        await asyncio.to_thread(look, run_dir)


def look(run_dir: str) -> None:
    """Note what the guest of a run folder has touched, unless there is a better record."""
    seconds = _due(run_dir)
    memory, instance = read_mapped(run_dir), read_instance(run_dir)
    if seconds is None or memory is None or instance is None or not process.alive(instance):
        return
    try:
        first_pages.note(instance.pid, memory, seconds)
    except OSError as error:
        _log(memory.path, error)


def pass_on(run_dir: str, path: str) -> None:
    """Give the record of the image that a guest came from to one that was written of it.

    Not to a format that is never mapped.
    """
    memory = read_mapped(run_dir)
    if memory is None or read_header(path).format is not SaveFormat.SPARSE:
        return
    try:
        first_pages.pass_on(memory.path, path)
    except OSError as error:
        _log(path, error)


def _due(run_dir: str) -> float | None:
    """For how long the guest has run, when a look now is worth it."""
    memory = read_mapped(run_dir)
    if memory is None:
        return None
    log = events.read_events(events_path(run_dir))
    began = next((event for event in log if event.name == "RESUME"), None)
    if began is None:
        return None
    seconds = time.time() - began.seconds - began.microseconds / 1e6
    noted = first_pages.noted(memory.path)
    return seconds if worth_noting(seconds, None if noted is None else noted.seconds) else None


def _log(path: str, error: OSError) -> None:
    logging.getLogger("virtsnap").info("cannot note the first pages of '%s': %s", path, error.strerror)
