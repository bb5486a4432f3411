"""Watches a root folder for what happens to its domains, whoever does it, and a QEMU that nobody watches.

All events stand in the store (`engine.telling`); a watcher waits until there may be new ones. It is woken by
inotify(7): when the bell is rung, when a process lets go of the database (one that died before it could
ring), when a QEMU writes to its log; and by a pidfd when a QEMU ends. It then takes over what the QEMUs have
logged, notes the end of those that are gone, and reads on in the store. Nothing is asked again and again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from virtsnap.engine import telling
from virtsnap.engine.inotify import CLOSE_WRITE, MODIFY, Inotify
from virtsnap.engine.locks import DomainLock
from virtsnap.engine.refresh import settle
from virtsnap.engine.world import events_path
from virtsnap.model.errors import VirtsnapError
from virtsnap.model.event import DomainEvent
from virtsnap.qemu import process
from virtsnap.store import bell, database
from virtsnap.store.database import Store


class Watch:
    """The events from the moment it was opened. Use as a context manager, or `close`."""

    def __init__(self, root: Path, store: Store, news: Callable[[str], None] | None = None) -> None:
        """`news` is called with a domain's uuid when its QEMU has logged something; see `unlocked`, too.

        Raises SystemRefused when the system has no watcher left to give, and what the store raises.
        """
        self._root, self._store, self._news = root, store, news
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._logs: dict[str, _Log] = {}
        self._busy: set[str] = set()
        self._told: deque[DomainEvent] = deque()
        self._inotify = Inotify()
        try:
            lock_folder = root / "lock"
            lock_folder.mkdir(mode=0o700, exist_ok=True)
            self._root_watch = self._inotify.add(root, CLOSE_WRITE)
            self._lock_watch = self._inotify.add(lock_folder, CLOSE_WRITE)
            self._loop.add_reader(self._inotify.fileno(), self._something_changed)
            # What happened before is nobody's news any more.
            self._look()
            self._sequence = store.last_event()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop watching; the iteration ends. Closing twice does nothing."""
        for log in self._logs.values():
            self._forget(log)
        self._logs.clear()
        if not self._inotify.closed:
            self._loop.remove_reader(self._inotify.fileno())
            self._inotify.close()
        self._wake.set()

    def __aiter__(self) -> AsyncIterator[DomainEvent]:
        return self

    async def __anext__(self) -> DomainEvent:
        """The next event, in the order in which they were told. May be cancelled and called again."""
        while not self._inotify.closed:
            if self._told:
                return self._told.popleft()
            self._wake.clear()
            self._look()
            self._told.extend(self._store.events_after(self._sequence))
            if self._told:
                self._sequence = self._told[-1].sequence
            else:
                await self._wake.wait()
        raise StopAsyncIteration

    def unlocked(self, uuid: str) -> bool:
        """Nobody works on the domain; else `news` is called when that one is done."""
        lock = DomainLock(self._root, uuid)
        # Twice: it may have been let go before we began to wait for that.
        for _ in range(2):
            if lock.try_acquire():
                self._busy.discard(uuid)
                lock.release()
                return True
            self._busy.add(uuid)
        return False

    def _look(self) -> None:
        """Take over what the QEMUs have logged, and note which are gone."""
        logs = {log.run_dir: log.uuid for log in self._store.event_logs()}
        for run_dir in self._logs.keys() - logs.keys():
            self._forget(self._logs.pop(run_dir))
        for run_dir, uuid in logs.items():
            if run_dir not in self._logs:
                self._logs[run_dir] = self._remember(run_dir, uuid)
        for uuid in dict.fromkeys(logs.values()):
            telling.overhear(self._store, uuid)
        for run_dir, log in self._logs.items():
            if log.ended:
                self._note_end(log)
            # Whoever took over what it logged: there may be something to do.
            elif log.has_grown(events_path(run_dir)) and self._news is not None:
                self._news(log.uuid)

    def _note_end(self, log: _Log) -> None:
        """Write down that a QEMU is gone, unless an operation on its domain does that itself."""
        lock = DomainLock(self._root, log.uuid)
        if not self.unlocked(log.uuid) or not lock.try_acquire():
            self._busy.add(log.uuid)
            return
        log.ended = False
        try:
            record = self._store.domain(log.uuid)
            # What an operation left half done is the next operation's to finish.
            if record is not None and self._store.journal(log.uuid) is None:
                settle(self._store, record)
        except VirtsnapError as error:
            logging.getLogger("virtsnap").warning("domain %s: %s", log.uuid, error)
        finally:
            lock.release()

    def _remember(self, run_dir: str, uuid: str) -> _Log:
        log = _Log(uuid)
        with contextlib.suppress(FileNotFoundError):
            log.watch = self._inotify.add(events_path(run_dir), MODIFY | CLOSE_WRITE)
        record = self._store.domain(uuid)
        instance = record.instance if record is not None else None
        if instance is None or instance.run_dir != run_dir:
            return log
        log.pidfd = process.open_pidfd(instance)
        if log.pidfd is None:
            log.ended = True
        else:
            self._loop.add_reader(log.pidfd, self._gone, log)
        return log

    def _forget(self, log: _Log) -> None:
        if log.watch is not None:
            self._inotify.remove(log.watch)
        self._close_pidfd(log)

    def _close_pidfd(self, log: _Log) -> None:
        if log.pidfd is not None:
            self._loop.remove_reader(log.pidfd)
            os.close(log.pidfd)
            log.pidfd = None

    def _gone(self, log: _Log) -> None:
        self._close_pidfd(log)
        log.ended = True
        self._wake.set()

    def _something_changed(self) -> None:
        for watch, name in self._inotify.read():
            if watch == self._root_watch:
                if name == bell.FILE_NAME or name.startswith(database.FILE_NAME):
                    self._wake.set()
            elif watch == self._lock_watch:
                uuid = name.removesuffix(".lock")
                if uuid in self._busy:
                    self._busy.discard(uuid)
                    self._wake.set()
                    if self._news is not None:
                        self._news(uuid)
            else:
                self._wake.set()


class _Log:
    """A QEMU that is watched."""

    def __init__(self, uuid: str) -> None:
        self.uuid = uuid
        self.watch: int | None = None
        self.pidfd: int | None = None
        self.ended = False
        """It is gone, which is not written down yet."""
        self._size = 0

    def has_grown(self, path: str) -> bool:
        """The log is longer than at the last call."""
        before = self._size
        with contextlib.suppress(FileNotFoundError):
            self._size = os.stat(path).st_size
        return self._size > before
