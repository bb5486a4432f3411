"""Long answers that are given again and again: kept as bytes while what they tell is the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

_BYTES_MAX = 4 * 1024 * 1024
_BESIDES = 1024
"""What a question and what its answer was made of weigh, roughly."""


class Packed(bytes):
    """An answer's payload, made already."""


class Answers:
    """Those that were given last; all clients share them."""

    def __init__(self, limit: int = _BYTES_MAX) -> None:
        self._limit = limit
        self._kept: OrderedDict[Hashable, tuple[object, Packed]] = OrderedDict()
        self._size = 0

    def get(self, key: Hashable, source: object, make: Callable[[], bytes]) -> Packed:
        """The answer to `key` (all that the question says), made anew unless `source` is what it was."""
        return self.find(key, source) or self.keep(key, source, make())

    def find(self, key: Hashable, source: object) -> Packed | None:
        """The one that is kept, if `source` is what it was."""
        known = self._kept.get(key)
        if known is None or not (known[0] is source or known[0] == source):
            return None
        self._kept.move_to_end(key)
        return known[1]

    def keep(self, key: Hashable, source: object, answer: bytes) -> Packed:
        """Keep it instead of an earlier one."""
        known = self._kept.pop(key, None)
        if known is not None:
            self._size -= _size(known[1])
        packed = Packed(answer)
        self._kept[key] = source, packed
        self._size += _size(packed)
        while self._size > self._limit:
            self._size -= _size(self._kept.popitem(last=False)[1][1])
        return packed

    def __len__(self) -> int:
        return len(self._kept)


def _size(answer: Packed) -> int:
    return len(answer) + _BESIDES
