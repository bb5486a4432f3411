"""Results that are asked for again and again, kept within bounds: a daemon lives for months.

Unlike `functools.lru_cache` it can count bytes instead of results, and a key may stand for a long text (its
digest) without keeping the text.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """The results used last. `size`: what one counts of `limit`; without it each counts one."""

    def __init__(self, limit: int, size: Callable[[V], int] = lambda value: 1) -> None:
        self._limit = limit
        self._size = size
        self._values: OrderedDict[K, V] = OrderedDict()
        self._total = 0

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The result of that key; made when it is not there."""
        try:
            self._values.move_to_end(key)
        except KeyError:
            pass
        else:
            return self._values[key]
        value = make()
        self._values[key] = value
        self._total += self._size(value)
        while self._total > self._limit:
            self._total -= self._size(self._values.popitem(last=False)[1])
        return value

    def __len__(self) -> int:
        return len(self._values)


def digest(text: str) -> bytes:
    """Stands for a text: no two texts have the same."""
    import hashlib  # a program that never asks starts without it

    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
