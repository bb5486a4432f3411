from __future__ import annotations

from virtsnap.cli.tree import forest


def test_branches_are_drawn_as_virsh_draws_them() -> None:
    parents = {"s1": None, "s2": "s1", "s3": "s2", "s5": "s1", "x": "s3"}
    assert forest(parents) == (
        "s1\n  |\n  +- s2\n  |   |\n  |   +- s3\n  |       |\n  |       +- x\n  |         \n  +- s5\n    \n"
    )


def test_siblings_without_children_have_no_blank_between_them() -> None:
    assert forest({"a": None, "b": "a", "c": "a"}) == "a\n  |\n  +- b\n  +- c\n    \n"


def test_a_lone_root_is_followed_by_a_blank_line() -> None:
    assert forest({"a": None, "b": None}) == "a\n\nb\n\n"


def test_a_parent_outside_the_list_makes_a_root() -> None:
    assert forest({"b": "a"}) == "b\n\n"


def test_a_chain_of_thousands_is_drawn() -> None:
    parents: dict[str, str | None] = {"0": None}
    parents.update({str(n): str(n - 1) for n in range(1, 3000)})
    assert forest(parents).count("+- ") == 2999
