"""Plans and facts as the journal keeps them: there and back, and nothing else in."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plan.scene import Scene
from virtsnap.formats import plan_json
from virtsnap.model import domain, facts, snapshot, steps
from virtsnap.model.domain import DomainRecord, Instance, Reason
from virtsnap.model.errors import Damaged
from virtsnap.model.facts import DomainFacts, FileFacts, ImageFacts, ImageRole
from virtsnap.model.snapshot import Location, Snapshot, SnapshotDisk, SnapshotTree
from virtsnap.model.steps import Declare, PauseGuest, Plan, Step, StoreWrite

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
RECORDS = [
    cls
    for module in (domain, facts, snapshot, steps)
    for cls in vars(module).values()
    if isinstance(cls, type) and dataclasses.is_dataclass(cls) and cls.__module__ == module.__name__
]


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Anything of that type, from the annotations alone: a new field or step is tried by itself."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind in (int, str, bool, type(None)):
        return {int: st.integers(), str: TEXT, bool: st.booleans(), type(None): st.none()}[kind]
    if origin in (types.UnionType, typing.Union):
        return st.one_of([values(one) for one in arguments])
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return st.lists(values(arguments[0]), max_size=2).map(tuple)
        return st.tuples(*(values(one) for one in arguments))
    if origin is frozenset:
        return st.frozensets(values(arguments[0]), max_size=2)
    if origin in (Mapping, dict):
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=2)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(kind)
    return records(kind)


def records(kind: type[Any]) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind)
    fields = {field.name: values(hints[field.name]) for field in dataclasses.fields(kind)}
    return st.builds(kind, **fields)


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
def test_every_record_there_and_back(kind: type[Any]) -> None:
    @settings(max_examples=15, deadline=None)
    @given(records(kind))
    def there_and_back(value: Any) -> None:
        text = plan_json.dumps(value)
        assert "\n" not in text
        assert plan_json.loads(text, kind) == value

    there_and_back()


def test_every_step_may_be_journaled() -> None:
    assert set(typing.get_args(Step)) <= set(RECORDS)


def test_types_come_back_as_they_were() -> None:
    record = DomainRecord(
        "u", "d", "<domain/>", reason=Reason.PAUSED_USER, instance=Instance(1, 2, 3, "b", "/r")
    )
    value = DomainFacts(
        record,
        SnapshotTree.of([Snapshot("s", disks=(SnapshotDisk("vda", Location.EXTERNAL),))], "s"),
        now=5,
        images={"/a": ImageFacts("/a", "raw")},
        owned={"/a": ImageRole.ORIGIN},
        named_elsewhere=frozenset({"/b"}),
        files={"/c": FileFacts(True)},
    )
    back = plan_json.loads(plan_json.dumps(value), DomainFacts)
    assert back == value
    assert back.record.reason is Reason.PAUSED_USER
    assert isinstance(back.named_elsewhere, frozenset)
    assert back.owned["/a"] is ImageRole.ORIGIN
    assert back.tree["s"].disks[0].location is Location.EXTERNAL
    assert back.chain("/a") == value.chain("/a")


def test_a_real_plan_with_its_facts() -> None:
    scene = Scene(running=True)
    scene.create("s1", memory=True)
    scene.create("before \N{SNOWMAN} 'update' & \"more\"")
    for value in (scene.plan_revert("s1"), scene.plan_delete("s1"), scene.world.facts()):
        assert plan_json.loads(plan_json.dumps(value), type(value)) == value


def test_only_what_the_model_has_goes_in() -> None:
    @dataclasses.dataclass
    class Stranger:
        what: object

    for value in (object(), [1], {1, 2}, Stranger(object()), b"bytes"):
        with pytest.raises(TypeError, match="has no place in a journal"):
            plan_json.dumps(value)


DECLARE = '{"is":"Declare"}'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        (DECLARE[:-1], "delimiter"),
        ('{"is":"Popen","args":["true"]}', "'Popen'"),
        ('{"is":"RemoveFile"}', "missing 1 required"),
        ('{"is":"RemoveFile","path":"/x","more":1}', "unexpected keyword"),
        ('{"enum":"Reason","name":"NOWHERE"}', "'NOWHERE'"),
        ('{"enum":"Color","name":"RED"}', "'Color'"),
        ('{"odd":1}', "'map'"),
        ('{"list":1}', "not iterable"),
        ('{"set":[{"list":1}]}', "not iterable"),
        ('{"map":[[1]]}', "not enough values"),
        ('{"map":1}', "not iterable"),
    ],
)
def test_what_cannot_be_read_is_damage(text: str, why: str) -> None:
    with pytest.raises(Damaged, match="the journal cannot be read") as caught:
        plan_json.loads(text, Plan)
    assert why in caught.value.detail


def test_another_kind_of_thing_is_damage() -> None:
    with pytest.raises(Damaged) as caught:
        plan_json.loads(DECLARE, Plan)
    assert str(caught.value) == "internal error: the journal holds a Declare instead of a Plan"


def test_deep_nesting_is_damage() -> None:
    text = '{"list":[' * 100_000 + "]}" * 100_000
    with pytest.raises(Damaged):
        plan_json.loads(text, Plan)


def test_one_line_of_json_that_people_can_read() -> None:
    plan = Plan("create", "s\N{LATIN SMALL LETTER E WITH ACUTE}", prepare=(PauseGuest(),), commit=Declare())
    found = json.loads(plan_json.dumps(plan))
    assert found["is"] == "Plan"
    assert found["prepare"] == {"list": [{"is": "PauseGuest", "given_up": None}]}
    assert "s\N{LATIN SMALL LETTER E WITH ACUTE}" in plan_json.dumps(plan)
    assert plan_json.dumps(StoreWrite()) == plan_json.dumps(StoreWrite())
