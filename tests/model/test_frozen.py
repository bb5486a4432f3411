"""The frozen classes behave as the library's own."""

import copy
import dataclasses
import inspect
import pickle
from dataclasses import field

import pytest

from virtsnap.model.frozen import dataclass


@dataclass(frozen=True)
class Point:
    """As the library's decorator would make it."""

    x: int
    y: int = 0
    tags: list[str] = field(default_factory=list)
    note: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True)
class Deep(Point):
    z: int = 7

    def __post_init__(self) -> None:
        if self.z < 0:
            raise ValueError("z")


@dataclass(frozen=True)
class Nothing:
    """No fields."""


@dataclass(frozen=True)
class Own:
    x: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Own)


class Plain(Point):
    """Not decorated."""

    def __init__(self) -> None:
        super().__init__(4, note="plain")


def test_values() -> None:
    point = Point(1, note="n")
    assert (point.x, point.y, point.tags, point.note) == (1, 0, [], "n")
    assert Point(1).tags is not Point(1).tags
    assert point == Point(1, note="other")
    assert point != Point(2)
    assert point != Deep(1)
    assert repr(Point(1, 2, ["a"], "n")) == "Point(x=1, y=2, tags=['a'])"
    assert Nothing() == Nothing()
    assert Own(1) == Own(2)
    assert len({Nothing(), Nothing()}) == 1


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        Point()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'w'"):
        Point(1, w=2)  # type: ignore[call-arg]


def test_frozen() -> None:
    point = Deep(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del point.z
    assert point.x == 1


def test_the_library_knows_them() -> None:
    assert [one.name for one in dataclasses.fields(Deep)] == ["x", "y", "tags", "note", "z"]
    assert dataclasses.replace(Deep(1, z=3), x=2) == Deep(2, z=3)
    assert dataclasses.asdict(Point(1)) == {"x": 1, "y": 0, "tags": [], "note": ""}
    assert str(inspect.signature(Nothing)) == "()"
    assert list(inspect.signature(Deep).parameters) == ["x", "y", "tags", "note", "z"]
    assert list(inspect.signature(Plain).parameters) == []
    match Point(1, 2):
        case Point(x, y):
            assert (x, y) == (1, 2)


def test_inheritance() -> None:
    with pytest.raises(ValueError, match="z"):
        Deep(1, z=-1)
    assert Plain().note == "plain"


def test_copies() -> None:
    point = Deep(1, tags=["a"])
    assert copy.deepcopy(point) == point
    assert pickle.loads(pickle.dumps(point)) == point
    assert hash(Own(1)) == hash(Own(1))
