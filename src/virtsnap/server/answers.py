"""Long answers that are given again and again: kept as bytes while what they tell is the same objects."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

_BYTES_MAX = 4 * 1024 * 1024


class Packed(bytes):
    """An answer's payload, made already."""


class Answers:
    """Those that were given last; all clients share them."""

    def __init__(self, limit: int = _BYTES_MAX) -> None:
        self._limit = limit
        self._kept: OrderedDict[Hashable, tuple[object, Packed]] = OrderedDict()
        self._size = 0

    def get(self, key: Hashable, source: object, make: Callable[[], bytes]) -> Packed:
        """The answer to `key` (all that the question says), made anew unless `source` is the very same."""
        known = self._kept.get(key)
        if known is not None:
            if known[0] is source:
                self._kept.move_to_end(key)
                return known[1]
            self._size -= len(known[1])
            del self._kept[key]
        answer = Packed(make())
        self._kept[key] = source, answer
        self._size += len(answer)
        while self._size > self._limit:
            self._size -= len(self._kept.popitem(last=False)[1][1])
        return answer
