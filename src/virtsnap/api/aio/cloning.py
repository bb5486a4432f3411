"""Cloning: a clone that is asked for, to be kept (`await`) or to be thrown away (`async with`)."""

from __future__ import annotations

from collections.abc import Generator
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from virtsnap.api.aio.domain import Domain
    from virtsnap.api.aio.snapshot import DomainSnapshot


class Cloning:
    """What `DomainSnapshot.clone` gives: nothing is made before it is awaited or entered."""

    def __init__(self, snapshot: DomainSnapshot, name: str, start: bool, paused: bool) -> None:
        self._snapshot, self._name, self._start, self._paused = snapshot, name, start, paused
        self._made: Domain | None = None

    def __await__(self) -> Generator[None, None, Domain]:
        return self.domain().__await__()

    async def domain(self) -> Domain:
        """Make the clone, which stays. Once made it is the same one every time."""
        if self._made is None:
            from virtsnap.api.aio.domain import Domain

            parent = self._snapshot.getDomain()
            made = await parent._service.snapshot_clone(
                parent.UUIDString(),
                self._snapshot.getName(),
                (self._name,),
                start=self._start,
                paused=self._paused,
            )
            assert isinstance(made, tuple)
            self._made = Domain(parent.connect(), made[0])
        return self._made

    async def __aenter__(self) -> Domain:
        return await self.domain()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._made is not None:
            await self._made.discard()
